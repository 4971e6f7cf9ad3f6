// What is on the canvas: the splats, the camera, the time, and the loop that draws a frame whenever one of them changes.

import { DEFAULT_ORBIT, type Orbit, between, close, poseOf } from "./camera.ts";
import { Orderer } from "./orderer.ts";
import { Player } from "./player.ts";
import { type Background, Renderer } from "./renderer.ts";
import { type Splats, weightsAt } from "./splats.ts";

const EASE_PER_SECOND = 18;
const SQUARE_PX = 10;
const SLOW_FRAME_S = 0.036; // below 28 frames per second; displays in power saving show 30
const QUALITIES = [1, 0.75, 0.5];
const LARGEST_PX = 8192;

export class View {
  readonly player = new Player(0);
  splats: Splats | null = null;
  /** CSS pixels at the bottom of the canvas that the controls cover. */
  margin = 0;
  /** Called after every drawn frame. */
  onframe: () => void = () => undefined;
  /** The camera that is drawn; it follows `goal`. */
  orbit: Orbit = DEFAULT_ORBIT;
  private goal: Orbit = DEFAULT_ORBIT;
  /** "white", "black", "checker" or "#rrggbb". */
  private behind = "white";
  private renderer: Renderer;
  private orderer: Orderer | null = null;
  private order: Uint32Array = new Uint32Array(0);
  private asked: number[] = [];
  private pending = 0;
  private last: number | null = null;
  private pace = 0;
  private quality = 0;
  private waiters: (() => void)[] = [];
  private readonly calm = matchMedia("(prefers-reduced-motion: reduce)");

  /** Throws an Error whose message is one sentence. */
  constructor(private readonly canvas: HTMLCanvasElement) {
    this.renderer = new Renderer(canvas);
    new ResizeObserver(() => this.resize()).observe(canvas);
    canvas.addEventListener("webglcontextlost", (event) => event.preventDefault());
    canvas.addEventListener("webglcontextrestored", () => {
      this.renderer = new Renderer(canvas);
      if (this.splats !== null) this.renderer.load(this.splats, this.order);
      this.wake();
    });
    this.resize();
  }

  /** Puts splats in the place of those before, once they are sorted; camera and time stay. */
  show(splats: Splats): Promise<void> {
    return new Promise((resolve, reject) => {
      const moves = splats.targets.map((target) => target.means);
      const orderer = new Orderer({ means: splats.means, moves }, (order, wish) => {
        if (this.orderer !== orderer) {
          try {
            this.renderer.load(splats, order);
          } catch (error) {
            reject(error instanceof Error ? error : new Error(String(error)));
            return;
          }
          this.orderer?.close();
          this.orderer = orderer;
          this.splats = splats;
          this.player.seconds = splats.seconds;
          this.asked = [...Array.from(wish.forward), ...wish.weights];
          this.quality = this.pace = 0;
          resolve();
        } else {
          this.renderer.reorder(order);
        }
        this.order = order;
        this.wake();
      });
      orderer.ask({ forward: poseOf(this.orbit).forward, weights: weightsAt(splats, this.player.time) });
    });
  }

  /** Moves the camera: smoothly, or at once. */
  moveTo(orbit: Orbit, atOnce = false): void {
    this.goal = orbit;
    if (atOnce || this.calm.matches) this.orbit = orbit;
    this.wake();
  }

  /** Where the camera is or is on its way to. */
  get destination(): Orbit {
    return this.goal;
  }

  seek(time: number): void {
    this.player.seek(time);
    this.wake();
  }

  play(on: boolean): void {
    if (on) this.player.play();
    else this.player.pause();
    this.wake();
  }

  get background(): string {
    return this.behind;
  }

  set background(name: string) {
    this.behind = name;
    this.wake();
  }

  /** Resolves when what is on the canvas is exact for camera and time, and nothing moves; while it plays, at the next frame. */
  settled(): Promise<void> {
    return new Promise((resolve) => {
      this.waiters.push(resolve);
      this.wake();
    });
  }

  /** A picture of the present camera and time; without its background where that is the checkerboard. */
  async picture(width: number, height: number): Promise<Blob> {
    await this.settled();
    if (this.splats === null) throw new Error("there is nothing to take a picture of yet");
    const background = this.behind === "checker" ? null : this.backdrop();
    const size = [width, height].map((n) => Math.max(1, Math.min(LARGEST_PX, Math.round(n))));
    const image = this.renderer.capture(this.orbit, weightsAt(this.splats, this.player.time), background, size[0], size[1]);
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = size;
    (canvas.getContext("2d") as CanvasRenderingContext2D).putImageData(image, 0, 0);
    return new Promise((resolve, reject) => {
      canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("the browser cannot write this picture"))), "image/png");
    });
  }

  /** Size in CSS pixels of the part of the canvas that the picture is centred in. */
  get room(): { width: number; height: number } {
    return { width: this.canvas.clientWidth, height: this.canvas.clientHeight - this.margin };
  }

  wake(): void {
    if (this.pending === 0) this.pending = requestAnimationFrame((now) => this.frame(now));
  }

  private frame(now: number): void {
    this.pending = 0;
    const elapsed = this.last === null ? 0 : Math.min(0.1, (now - this.last) / 1000);
    this.player.advance(elapsed);
    const following = !close(this.orbit, this.goal);
    this.orbit = following ? between(this.orbit, this.goal, 1 - Math.exp(-EASE_PER_SECOND * elapsed)) : this.goal;

    const moving = this.player.running || following;
    this.keepPace(moving ? elapsed : 0);
    this.last = moving ? now : null;
    if (this.splats !== null && this.orderer !== null) {
      const weights = weightsAt(this.splats, this.player.time);
      const { forward } = poseOf(this.orbit);
      const wish = [...forward, ...weights];
      if (wish.some((v, i) => v !== this.asked[i])) {
        this.asked = wish;
        this.orderer.ask({ forward, weights });
      }
      const margin = this.margin / this.canvas.clientHeight;
      this.renderer.draw(this.orbit, weights, this.backdrop(), moving ? QUALITIES[this.quality] : 1, margin);
      if (this.player.running || (!moving && !this.orderer.busy)) this.waiters.splice(0).forEach((resolve) => resolve());
    }
    this.onframe();
    if (moving) this.wake();
  }

  /** Where the GPU is too slow, moving pictures get fewer pixels; still ones never do. */
  private keepPace(elapsed: number): void {
    if (elapsed === 0) return;
    this.pace += 0.05 * (elapsed - this.pace);
    if (this.pace > SLOW_FRAME_S && this.quality < QUALITIES.length - 1) {
      this.quality++;
      this.pace = 0;
    }
  }

  private backdrop(): Background {
    const named: Record<string, [number, number, number]> = { white: [1, 1, 1], black: [0, 0, 0], checker: [1, 1, 1] };
    const parts = /^#(..)(..)(..)$/.exec(this.behind)?.slice(1).map((hex) => parseInt(hex, 16) / 255);
    const color = named[this.behind] ?? parts ?? named.white;
    const square = this.behind === "checker" ? Math.round(SQUARE_PX * this.ratio) : 0;
    return { color: color as Background["color"], square };
  }

  /** Pixels of the canvas per CSS pixel. */
  get ratio(): number {
    return Math.min(2, window.devicePixelRatio || 1);
  }

  private resize(): void {
    this.canvas.width = Math.max(1, Math.round(this.canvas.clientWidth * this.ratio));
    this.canvas.height = Math.max(1, Math.round(this.canvas.clientHeight * this.ratio));
    // At once: a resized canvas is empty until it is drawn.
    if (this.pending !== 0) cancelAnimationFrame(this.pending);
    this.frame(performance.now());
  }
}
