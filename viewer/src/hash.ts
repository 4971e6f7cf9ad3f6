// The view in the page's address: #t=0.5&az=30&el=10&r=1.5, so that a link shows what its sender saw.

import { DEFAULT_ORBIT, type Orbit, limited, wrapped } from "./camera.ts";

export interface Address {
  time: number | null;
  orbit: Partial<Orbit>;
  playing: boolean | null;
  background: string | null;
  /** Whether the controls are shown; embedders switch them off with ui=0. */
  controls: boolean | null;
}

export function readAddress(hash: string): Address {
  const fields = new URLSearchParams(hash.replace(/^#/, ""));
  const number = (name: string): number | null => {
    const value = parseFloat(fields.get(name) ?? "");
    return Number.isFinite(value) ? value : null;
  };
  const flag = (name: string): boolean | null => (fields.has(name) ? fields.get(name) !== "0" : null);
  const orbit: Partial<Orbit> = {};
  const azimuth = number("az");
  const elevation = number("el");
  const radius = number("r");
  const fov = number("fov");
  if (azimuth !== null) orbit.azimuth = azimuth;
  if (elevation !== null) orbit.elevation = elevation;
  if (radius !== null && radius > 0) orbit.radius = radius;
  if (fov !== null && fov > 1 && fov < 170) orbit.fov = fov;
  const target = [number("x"), number("y"), number("z")];
  if (target.some((v) => v !== null)) orbit.target = target.map((v) => v ?? 0) as Orbit["target"];
  return { time: number("t"), orbit, playing: flag("play"), background: fields.get("bg"), controls: flag("ui") };
}

/** The address of a view; what was in `hash` beside the view stays. */
export function writeAddress(hash: string, time: number | null, orbit: Orbit): string {
  const fields = new URLSearchParams(hash.replace(/^#/, ""));
  const put = (name: string, value: number | null, digits: number): void => {
    if (value === null) fields.delete(name);
    else fields.set(name, String(Number(value.toFixed(digits))));
  };
  put("t", time, 3);
  put("az", wrapped(orbit.azimuth), 1);
  put("el", orbit.elevation, 1);
  put("r", orbit.radius, 3);
  const centred = orbit.target.every((v) => Math.abs(v) < 5e-4);
  ["x", "y", "z"].forEach((name, i) => put(name, centred ? null : orbit.target[i], 3));
  put("fov", Math.abs(orbit.fov - DEFAULT_ORBIT.fov) < 5e-3 ? null : orbit.fov, 2);
  if (time !== null) fields.delete("play");
  return `#${fields}`;
}

/** `orbit` with what an address or an embedder asks for, within what can be reached. */
export const changed = (orbit: Orbit, wish: Partial<Orbit>): Orbit => limited({ ...orbit, ...wish });
