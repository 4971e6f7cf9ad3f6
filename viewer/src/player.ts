// Time: where the animation is and where it goes next.

import { clamp } from "./camera.ts";

export const MODES = ["loop", "ping-pong", "once"] as const;
export type Mode = (typeof MODES)[number];

export class Player {
  /** In [0, 1]. */
  time = 0;
  playing = false;
  mode: Mode = "loop";
  speed = 1;
  private back = false;

  /** `seconds` is the length of one play at speed 1; 0 for what stands still. */
  constructor(public seconds: number) {}

  /** Whether time goes by: what stands still starts to play when it is replaced by what moves. */
  get running(): boolean {
    return this.playing && this.seconds > 0;
  }

  play(): void {
    if (this.mode === "once" && this.time >= 1) this.time = 0;
    this.playing = true;
  }

  pause(): void {
    this.playing = false;
  }

  seek(time: number): void {
    this.time = clamp(time, 0, 1);
  }

  /** Goes on by `elapsed` seconds of the clock on the wall. */
  advance(elapsed: number): void {
    if (!this.running) return;
    const step = (elapsed * this.speed) / this.seconds;
    if (this.mode === "ping-pong") {
      const phase = ((this.back ? 2 - this.time : this.time) + step) % 2; // up to 1 forth, then to 2 back
      this.back = phase > 1;
      this.time = this.back ? 2 - phase : phase;
      return;
    }
    this.back = false;
    const time = this.time + step;
    if (this.mode === "once" && time >= 1) this.playing = false;
    this.time = this.mode === "loop" ? time % 1 : Math.min(time, 1);
  }
}
