// Mouse and touch on the canvas: one finger or the left button orbits, two fingers or the right button pan, pinch and wheel zoom.

import { type Orbit, add, focalOf, limited, poseOf } from "./camera.ts";
import type { View } from "./view.ts";

interface Point {
  x: number;
  y: number;
}

/** Calls `change` with the orbit that each gesture makes out of the one that the view has. */
export function listen(canvas: HTMLCanvasElement, view: View, change: (orbit: Orbit) => void): void {
  const present = (): Orbit => view.destination;
  const down = new Map<number, Point>();

  const turn = (dx: number, dy: number): void => {
    const orbit = present();
    const degrees = 200 / Math.max(300, Math.min(canvas.clientWidth, canvas.clientHeight));
    change(limited({ ...orbit, azimuth: orbit.azimuth - dx * degrees, elevation: orbit.elevation + dy * degrees }));
  };
  const pan = (dx: number, dy: number): void => {
    const orbit = present();
    const pose = poseOf(orbit);
    const step = orbit.radius / focalOf(orbit, view.room.width, view.room.height);
    change({ ...orbit, target: add(add(orbit.target, pose.right, -dx * step), pose.down, -dy * step) });
  };
  const zoom = (factor: number): void => change(limited({ ...present(), radius: present().radius * factor }));

  canvas.addEventListener("pointerdown", (event) => {
    down.set(event.pointerId, { x: event.clientX, y: event.clientY });
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    const before = down.get(event.pointerId);
    if (before === undefined) return;
    const now = { x: event.clientX, y: event.clientY };
    const [dx, dy] = [now.x - before.x, now.y - before.y];
    if (down.size === 1) {
      if (event.shiftKey || event.ctrlKey || event.buttons > 1) pan(dx, dy);
      else turn(dx, dy);
    } else if (down.size === 2) {
      const [other] = [...down].filter(([id]) => id !== event.pointerId).map(([, point]) => point);
      const length = (p: Point): number => Math.max(10, Math.hypot(p.x - other.x, p.y - other.y));
      pan(dx / 2, dy / 2);
      zoom(length(before) / length(now));
    }
    down.set(event.pointerId, now);
  });
  for (const name of ["pointerup", "pointercancel", "lostpointercapture"] as const) {
    canvas.addEventListener(name, (event) => down.delete(event.pointerId));
  }
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 16 : 1;
      zoom(Math.exp(Math.max(-200, Math.min(200, event.deltaY * lines)) * (event.ctrlKey ? 0.01 : 0.0015)));
    },
    { passive: false },
  );
}
