// Asks for orders off the main thread, one at a time: the latest wish waits, wishes in between are dropped.

import workerSource from "inline-worker:./worker.ts";
import { Sorter, type SortInput } from "./sort.ts";
import type { Question } from "./worker.ts";

interface Wish {
  forward: ArrayLike<number>;
  weights: Float32Array;
}

let workerUrl: string | null = null; // one for all: a page that follows a training run starts many workers

export class Orderer {
  private worker: Worker | null = null;
  private local: Sorter | null = null;
  private asked: Wish | null = null;
  private waiting: Wish | null = null;

  /** `onOrder` gets every order together with what it was computed for. */
  constructor(
    private readonly input: SortInput,
    private readonly onOrder: (order: Uint32Array, wish: Wish) => void,
  ) {
    try {
      workerUrl ??= URL.createObjectURL(new Blob([workerSource], { type: "text/javascript" }));
      this.worker = new Worker(workerUrl);
      this.worker.onmessage = ({ data }: MessageEvent<Uint32Array>) => this.arrived(data);
      this.worker.onerror = (event) => {
        event.preventDefault();
        this.stayHere();
      };
      this.post({ load: input });
    } catch {
      this.stayHere();
    }
  }

  /** Whether an order is still to come. */
  get busy(): boolean {
    return this.asked !== null;
  }

  ask(wish: Wish): void {
    if (this.asked !== null) this.waiting = wish;
    else this.send(wish);
  }

  close(): void {
    this.worker?.terminate();
    this.asked = this.waiting = null;
  }

  private send(wish: Wish): void {
    this.asked = wish;
    if (this.worker !== null) this.post(wish);
    else if (this.local !== null) this.arrived(this.local.order(wish.forward, wish.weights));
  }

  private arrived(order: Uint32Array): void {
    const done = this.asked as Wish;
    this.asked = null;
    const next = this.waiting;
    this.waiting = null;
    if (next !== null) this.send(next);
    this.onOrder(order, done);
  }

  private post(question: Question): void {
    this.worker?.postMessage(question);
  }

  /** A page that may not start workers (an embedder's policy) sorts on its own thread. */
  private stayHere(): void {
    this.worker?.terminate();
    this.worker = null;
    this.local = new Sorter(this.input);
    const wish = this.waiting ?? this.asked;
    this.asked = this.waiting = null;
    if (wish !== null) this.send(wish);
  }
}
