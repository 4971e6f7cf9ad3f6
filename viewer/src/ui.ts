// The controls around the canvas: they show the state of the view and change it, and hold none of their own.

import { type Orbit, frustumPath, limited } from "./camera.ts";
import { listen } from "./controls.ts";
import { MODES } from "./player.ts";
import type { View } from "./view.ts";

export const element = <T extends Element = HTMLElement>(id: string): T => document.getElementById(id) as unknown as T;

const BACKGROUNDS = ["white", "black", "checker"];
const TURN_DEGREES = 5;
const ZOOM_STEP = 1.1;
const MODE_NAMES = { loop: "Loop", "ping-pong": "Back and forth", once: "Once" };

export class Controls {
  /** Called when a person changed the view, not when time just goes by. */
  onchange: () => void = () => undefined;
  private readonly slider = element<HTMLInputElement>("slider");
  private readonly speed = element<HTMLSelectElement>("speed");
  /** Where a reset goes; null for the input camera. */
  start: Orbit | null = null;
  private readonly bar = element("bar");
  private frustum = false;
  private hidden = false;

  constructor(
    private readonly view: View,
    canvas: HTMLCanvasElement,
  ) {
    listen(canvas, view, (orbit) => this.look(orbit));
    const click = (id: string, action: () => void): void => element(id).addEventListener("click", action);
    click("play", () => this.toggle());
    click("mode", () => this.nextMode());
    click("home", () => this.look(this.input));
    click("gizmo", () => this.toggleFrustum());
    click("picture", () => void this.save());
    click("full", () => this.fullScreen());
    click("ask", () => element<HTMLDialogElement>("help").showModal());
    click("background", () => this.openSwatches(element("swatches").hidden !== false));
    this.slider.addEventListener("input", () => {
      view.play(false);
      this.seek(Number(this.slider.value));
    });
    this.speed.addEventListener("change", () => {
      view.player.speed = Number(this.speed.value);
    });
    for (const swatch of this.swatches()) {
      swatch.addEventListener("click", () => this.paint(swatch.dataset.background as string));
    }
    element("color").addEventListener("input", () => this.paint(element<HTMLInputElement>("color").value));
    document.addEventListener("pointerdown", (event) => {
      if (!element("backgrounds").contains(event.target as Node)) this.openSwatches(false);
    });
    document.addEventListener("keydown", (event) => this.key(event));
    element("full").hidden = !document.fullscreenEnabled;
  }

  /** Shows the state of the view; called after every frame. */
  sync(): void {
    const { view } = this;
    const { player, splats } = view;
    this.bar.hidden = splats === null || this.hidden;
    element("about").hidden = this.hidden;
    if (splats === null) return;
    const moves = splats.seconds > 0;
    this.bar.classList.toggle("still", !moves);
    element("time").hidden = !moves;
    const seconds = player.time * splats.seconds;
    this.slider.value = String(player.time);
    this.slider.style.setProperty("--done", `${100 * player.time}%`);
    this.slider.setAttribute("aria-valuetext", `${seconds.toFixed(1)} of ${splats.seconds.toFixed(1)} seconds`);
    element("clock").textContent = `${seconds.toFixed(1)} / ${splats.seconds.toFixed(1)} s`;
    const play = element("play");
    play.toggleAttribute("data-playing", player.playing);
    play.setAttribute("aria-label", player.playing ? "Pause" : "Play");
    this.speed.value = String(player.speed);
    const mode = element("mode");
    mode.dataset.mode = player.mode;
    mode.title = `${MODE_NAMES[player.mode]} (L)`;
    mode.setAttribute("aria-label", `Repeat: ${MODE_NAMES[player.mode]}`);
    const still = splats.count === 1 ? "1 Gaussian" : `${splats.count.toLocaleString("en")} Gaussians`;
    element("facts").textContent = moves ? `${still} · ${splats.frames} frames` : still;
    element("gizmo").setAttribute("aria-pressed", String(this.frustum));
    this.leaveRoom();
    const path = this.frustum ? frustumPath(splats.input, view.orbit, view.room.width, view.room.height) : "";
    element("frustum").firstElementChild?.setAttribute("d", path);
    for (const swatch of this.swatches()) {
      swatch.setAttribute("aria-pressed", String(swatch.dataset.background === view.background));
    }
    (element("color").parentElement as HTMLElement).toggleAttribute("data-chosen", view.background.startsWith("#"));
  }

  /** The picture is centred above the controls. */
  private leaveRoom(): void {
    const margin = this.bar.hidden ? 0 : this.bar.offsetHeight + 2 * parseFloat(getComputedStyle(this.bar).bottom);
    if (margin === this.view.margin) return;
    this.view.margin = margin;
    this.view.wake();
  }

  showControls(on: boolean): void {
    this.hidden = !on;
    this.view.wake();
  }

  private get input(): Orbit {
    return this.view.splats?.input ?? this.view.destination;
  }

  private swatches(): HTMLElement[] {
    return [...document.querySelectorAll<HTMLElement>("#swatches [data-background]")];
  }

  private look(orbit: Orbit): void {
    this.view.moveTo(orbit);
    this.onchange();
  }

  private seek(time: number): void {
    this.view.seek(time);
    this.onchange();
  }

  private toggle(): void {
    this.view.play(!this.view.player.playing);
    this.onchange();
  }

  private step(frames: number): void {
    const last = Math.max(1, (this.view.splats?.frames ?? 1) - 1);
    this.view.play(false);
    this.seek((Math.round(this.view.player.time * last) + frames) / last);
  }

  private nextMode(): void {
    const { player } = this.view;
    player.mode = MODES[(MODES.indexOf(player.mode) + 1) % MODES.length];
    this.view.wake();
  }

  private faster(steps: number): void {
    this.speed.selectedIndex = Math.max(0, Math.min(this.speed.length - 1, this.speed.selectedIndex + steps));
    this.view.player.speed = Number(this.speed.value);
  }

  private toggleFrustum(): void {
    this.frustum = !this.frustum;
    this.view.wake();
  }

  private openSwatches(open: boolean): void {
    element("swatches").hidden = !open;
    element("background").setAttribute("aria-expanded", String(open));
  }

  private paint(background: string): void {
    this.view.background = background;
    this.onchange();
  }

  private nextBackground(): void {
    this.paint(BACKGROUNDS[(BACKGROUNDS.indexOf(this.view.background) + 1) % BACKGROUNDS.length]);
  }

  private async save(): Promise<void> {
    const link = document.createElement("a");
    const { width, height } = this.view.room;
    link.href = URL.createObjectURL(await this.view.picture(width * this.view.ratio, height * this.view.ratio));
    link.download = `${document.title}.png`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }

  private fullScreen(): void {
    // A refusal (an embedder's policy) leaves the page as it was.
    const done = document.fullscreenElement ? document.exitFullscreen() : document.documentElement.requestFullscreen();
    done.catch(() => undefined);
  }

  private key(event: KeyboardEvent): void {
    if (event.ctrlKey || event.metaKey || event.altKey || element<HTMLDialogElement>("help").open) return;
    const own = event.target instanceof HTMLElement && event.target.matches("button, select, input");
    if (own && [" ", "Enter", "ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Home", "End"].includes(event.key)) return;
    const turn = (azimuth: number, elevation: number): void => {
      const orbit = this.view.destination;
      this.look(limited({ ...orbit, azimuth: orbit.azimuth + azimuth, elevation: orbit.elevation + elevation }));
    };
    const zoom = (factor: number): void => {
      this.look(limited({ ...this.view.destination, radius: this.view.destination.radius * factor }));
    };
    const actions: Record<string, () => void> = {
      " ": () => this.toggle(),
      ArrowLeft: () => this.step(-1),
      ArrowRight: () => this.step(1),
      Home: () => this.seek(0),
      End: () => this.seek(1),
      "[": () => this.faster(-1),
      "]": () => this.faster(1),
      a: () => turn(-TURN_DEGREES, 0),
      d: () => turn(TURN_DEGREES, 0),
      w: () => turn(0, TURN_DEGREES),
      s: () => turn(0, -TURN_DEGREES),
      "+": () => zoom(1 / ZOOM_STEP),
      "=": () => zoom(1 / ZOOM_STEP),
      "-": () => zoom(ZOOM_STEP),
      l: () => this.nextMode(),
      r: () => this.look(this.start ?? this.input),
      i: () => this.look(this.input),
      c: () => this.toggleFrustum(),
      b: () => this.nextBackground(),
      p: () => void this.save(),
      f: () => this.fullScreen(),
      u: () => this.showControls(this.hidden),
      h: () => element<HTMLDialogElement>("help").showModal(),
      "?": () => element<HTMLDialogElement>("help").showModal(),
      Escape: () => this.openSwatches(false),
    };
    const action = actions[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (action === undefined) return;
    event.preventDefault();
    action();
    this.view.wake();
  }
}
