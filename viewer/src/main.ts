// Starts the page, and offers it to scripts around it as window.gs4d.

import { type Orbit, wrapped } from "./camera.ts";
import { readGlb } from "./glb.ts";
import { changed, readAddress, writeAddress } from "./hash.ts";
import { follow } from "./live.ts";
import { MODES, type Mode } from "./player.ts";
import { joins } from "./splats.ts";
import { Controls, element } from "./ui.ts";
import { View } from "./view.ts";

const ADDRESS_DELAY_MS = 300;

function bytesOf(base64: string): ArrayBuffer {
  let text = "";
  try {
    text = atob(base64);
  } catch {
    // Cut short or changed: whoever reads the bytes says so.
  }
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes.buffer;
}

function tell(sentence: string): void {
  const message = element("message");
  message.textContent = sentence;
  message.hidden = sentence === "";
}

function announce(text: string, state: string): void {
  const live = element("live");
  live.textContent = text;
  live.hidden = text === "";
  live.dataset.state = state;
}

/** Lets scripts drive the page: angles in degrees, time in [0, 1]. */
function api(view: View, controls: Controls, ready: Promise<void>) {
  return {
    /** Resolves when the first splats are on the screen. */
    ready,
    /** Resolves when the picture is exact for the present camera and time. */
    settled: () => view.settled(),
    setTime: (time: number) => view.seek(time),
    getTime: () => view.player.time,
    setCamera: (wish: Partial<Orbit>) => view.moveTo(changed(view.destination, wish), true),
    getCamera: (): Orbit => ({ ...view.destination, azimuth: wrapped(view.destination.azimuth) }),
    play: () => view.play(true),
    pause: () => view.play(false),
    setSpeed: (speed: number) => {
      if (speed > 0) view.player.speed = speed;
    },
    setMode: (mode: Mode) => {
      if (MODES.includes(mode)) view.player.mode = mode;
    },
    /** "white", "black", "checker" or "#rrggbb". */
    setBackground: (background: string) => {
      view.background = background;
    },
    showControls: (on: boolean) => controls.showControls(on),
    /** A PNG of the present view. */
    picture: (width: number, height: number) => view.picture(width, height),
    get count() {
      return view.splats?.count ?? 0;
    },
  };
}

declare global {
  interface Window {
    gs4d?: ReturnType<typeof api>;
  }
}

function start(): void {
  const canvas = element<HTMLCanvasElement>("canvas");
  const view = new View(canvas);
  const controls = new Controls(view, canvas);
  let written = location.hash;
  let timer = 0;
  let ownMode: Mode = view.player.mode; // the page's choice, until a person makes one

  const obey = (first: boolean): void => {
    const address = readAddress(location.hash);
    const base = first && view.splats !== null ? view.splats.input : view.destination;
    view.moveTo(changed(base, address.orbit), first);
    if (address.background !== null) view.background = address.background;
    if (address.controls !== null) controls.showControls(address.controls);
    if (address.time !== null) view.seek(address.time);
    const wanted = address.playing ?? (first && address.time === null && !matchMedia("(prefers-reduced-motion: reduce)").matches);
    if (first || address.playing !== null || address.time !== null) view.play(wanted);
  };
  view.onframe = () => controls.sync();
  controls.onchange = () => {
    clearTimeout(timer);
    timer = window.setTimeout(() => {
      written = writeAddress(location.hash, view.player.playing ? null : view.player.time, view.destination);
      try {
        history.replaceState(null, "", written);
      } catch {
        // A page inside a page without an address of its own keeps none.
      }
    }, ADDRESS_DELAY_MS);
  };
  window.addEventListener("hashchange", () => {
    if (location.hash !== written) obey(false);
  });

  const update = async (bytes: ArrayBuffer): Promise<void> => {
    const first = view.splats === null;
    const splats = readGlb(bytes);
    await view.show(splats);
    if (view.player.mode === ownMode) view.player.mode = ownMode = joins(splats) ? "loop" : "ping-pong";
    if (first) {
      obey(true);
      controls.start = view.destination;
    }
    tell("");
  };

  const holder = element("asset");
  const source = holder.dataset.source ?? "";
  let settle: (result: Promise<void> | void) => void = () => undefined;
  const ready = new Promise<void>((resolve) => {
    settle = resolve;
  });
  ready.catch(() => undefined); // told to the person below; a script that waits gets it too
  window.gs4d = api(view, controls, ready);
  if (source === "") {
    const inside = holder.textContent ?? "";
    holder.textContent = ""; // twice in memory is once too often
    const shown = update(bytesOf(inside)).then(() => view.settled());
    shown.catch((error: Error) => tell(error.message));
    settle(shown);
  } else {
    follow(
      source,
      async (bytes) => {
        await update(bytes);
        settle(view.settled());
      },
      (text, state) => {
        announce(text, state);
        if (view.splats === null) tell(text || "Loading the splats.");
      },
    );
  }
}

try {
  start();
} catch (error) {
  tell(error instanceof Error ? error.message : String(error));
}
