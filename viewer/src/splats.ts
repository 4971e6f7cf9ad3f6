// An animated set of Gaussians as the page holds it, and its motion: base values plus weighted sums of a few targets.

import type { Orbit } from "./camera.ts";

export interface Splats {
  count: number;
  /** 3 per Gaussian, world units. */
  means: Float32Array;
  /** 4 per Gaussian, xyzw. */
  quats: Float32Array;
  /** 3 per Gaussian, natural logarithms of standard deviations. */
  logScales: Float32Array;
  /** 1 per Gaussian. */
  logits: Float32Array;
  /** Spherical-harmonic degree, 0-3. */
  degree: number;
  /** (degree + 1)^2 coefficients of 3 colours per Gaussian. */
  harmonics: Float32Array;
  targets: Target[];
  /** Keyframes in [0, 1], rising. */
  times: Float32Array;
  /** One row of targets.length weights per keyframe. */
  weights: Float32Array;
  /** Length of one play in seconds; 0 for what stands still. */
  seconds: number;
  /** Frames of the clip that the asset was fitted to. */
  frames: number;
  /** Where the input video was seen from. */
  input: Orbit;
}

/** What one unit of weight adds to the base values; null where no target changes them. */
export interface Target {
  means: Float32Array | null;
  quats: Float32Array | null;
  logScales: Float32Array | null;
  logits: Float32Array | null;
  /** 3 per Gaussian, added to the colour of degree 0 on the scale of [0, 1] colours. */
  colors: Float32Array | null;
}

/** The weights of all targets at time t in [0, 1]: linear between keyframes. */
export function weightsAt(splats: Splats, t: number): Float32Array {
  const { times, weights } = splats;
  const columns = splats.targets.length;
  let next = 0;
  while (next < times.length && times[next] <= t) next++;
  const right = Math.min(next, times.length - 1);
  const left = Math.max(next - 1, 0);
  const span = times[right] - times[left];
  const part = span > 0 ? (t - times[left]) / span : 0;
  const result = new Float32Array(columns);
  for (let k = 0; k < columns; k++) {
    result[k] = weights[left * columns + k] * (1 - part) + weights[right * columns + k] * part;
  }
  return result;
}

/** Whether the motion can run in a circle: its end lies within two frames' way of its beginning. */
export function joins(splats: Splats): boolean {
  const sizes = splats.targets.map(({ means }) => (means ?? new Float32Array(0)).reduce((most: number, x) => Math.max(most, Math.abs(x)), 0));
  const way = (a: number, b: number): number => {
    const [from, to] = [weightsAt(splats, a), weightsAt(splats, b)];
    return Math.hypot(...sizes.map((size, k) => size * (to[k] - from[k])));
  };
  const steps = Math.max(1, splats.frames - 1);
  let total = 0;
  for (let i = 0; i < steps; i++) total += way(i / steps, (i + 1) / steps);
  return way(0, 1) <= (2 * total) / steps;
}
