// Cameras that look at a target from an orbit around it. World: y up, azimuth 0 at +z and 90 at +x, elevation above.
// Camera axes are OpenCV's: x right, y down, z forward.

export type Vec3 = [number, number, number];

export interface Orbit {
  /** Degrees. */
  azimuth: number;
  /** Degrees, -90 to 90. */
  elevation: number;
  /** Distance to the target, world units. */
  radius: number;
  target: Vec3;
  /** Field of view of the picture's height, degrees. */
  fov: number;
  /** Width over height of the picture that must fit into the window. */
  aspect: number;
}

export interface Pose {
  right: Vec3;
  down: Vec3;
  forward: Vec3;
  center: Vec3;
}

export const DEFAULT_ORBIT: Orbit = { azimuth: 0, elevation: 0, radius: 1.5, target: [0, 0, 0], fov: 49.13, aspect: 1 };
export const NEAR = 0.01;
const RADIANS = Math.PI / 180;

export const dot = (a: Vec3, b: Vec3): number => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
export const add = (a: Vec3, b: Vec3, scale = 1): Vec3 => [a[0] + scale * b[0], a[1] + scale * b[1], a[2] + scale * b[2]];
export const clamp = (x: number, low: number, high: number): number => Math.min(high, Math.max(low, x));

/** Up is the direction in which elevation grows, so the pose is defined straight above and below too. */
export function poseOf(orbit: Orbit): Pose {
  const az = orbit.azimuth * RADIANS;
  const el = orbit.elevation * RADIANS;
  const [sa, ca, se, ce] = [Math.sin(az), Math.cos(az), Math.sin(el), Math.cos(el)];
  const forward: Vec3 = [-ce * sa, -se, -ce * ca];
  return { right: [ca, 0, -sa], down: [se * sa, -ce, se * ca], forward, center: add(orbit.target, forward, -orbit.radius) };
}

/** Pixels per unit of tangent: the orbit's whole picture fits into width x height. */
export function focalOf(orbit: Orbit, width: number, height: number): number {
  return Math.min(height, width / orbit.aspect) / 2 / Math.tan((orbit.fov * RADIANS) / 2);
}

/** The elevation and radius that a person can reach. */
export function limited(orbit: Orbit): Orbit {
  return { ...orbit, elevation: clamp(orbit.elevation, -90, 90), radius: clamp(orbit.radius, 0.05, 50) };
}

/** Azimuth in [-180, 180), the way people write it. */
export const wrapped = (azimuth: number): number => ((((azimuth + 180) % 360) + 360) % 360) - 180;

/** Moves `from` towards `to` by `part` in [0, 1], the short way around. */
export function between(from: Orbit, to: Orbit, part: number): Orbit {
  const mix = (a: number, b: number): number => a + (b - a) * part;
  return {
    azimuth: from.azimuth + wrapped(to.azimuth - from.azimuth) * part,
    elevation: mix(from.elevation, to.elevation),
    radius: Math.exp(mix(Math.log(from.radius), Math.log(to.radius))),
    target: [0, 1, 2].map((i) => mix(from.target[i], to.target[i])) as Vec3,
    fov: mix(from.fov, to.fov),
    aspect: to.aspect,
  };
}

/** Whether two orbits draw the same picture to the eye. */
export function close(a: Orbit, b: Orbit): boolean {
  const reach = Math.max(...a.target.map((x, i) => Math.abs(x - b.target[i])));
  const turn = Math.abs(wrapped(a.azimuth - b.azimuth)) + Math.abs(a.elevation - b.elevation) + Math.abs(a.fov - b.fov);
  return turn < 0.01 && reach < 1e-4 && Math.abs(Math.log(a.radius / b.radius)) < 1e-4;
}

/** The lines of a camera's frustum on the screen, as an SVG path: apex to the corners of its picture, and the picture. */
export function frustumPath(shown: Orbit, seen: Orbit, width: number, height: number): string {
  const pose = poseOf(seen);
  const focal = focalOf(seen, width, height);
  const frame = poseOf(shown);
  const depth = 0.2 * shown.radius;
  const high = depth * Math.tan((shown.fov * RADIANS) / 2);
  const corner = (x: number, y: number): Vec3 =>
    add(add(add(frame.center, frame.forward, depth), frame.right, x * high * shown.aspect), frame.down, y * high);
  const corners = [corner(-1, -1), corner(1, -1), corner(1, 1), corner(-1, 1)];
  const roof = add(corner(0, -1), frame.down, -0.35 * high);
  const lines: [Vec3, Vec3][] = [
    ...corners.map((c, i): [Vec3, Vec3] => [c, corners[(i + 1) % 4]]),
    ...corners.map((c): [Vec3, Vec3] => [frame.center, c]),
    [corner(-0.35, -1), roof],
    [roof, corner(0.35, -1)],
  ];
  const toCamera = (p: Vec3): Vec3 => {
    const away = add(p, pose.center, -1);
    return [dot(pose.right, away), dot(pose.down, away), dot(pose.forward, away)];
  };
  const toScreen = (p: Vec3): string =>
    `${((focal * p[0]) / p[2] + width / 2).toFixed(1)} ${((focal * p[1]) / p[2] + height / 2).toFixed(1)}`;
  return lines
    .map(([a, b]) => [toCamera(a), toCamera(b)])
    .map(([a, b]) => (a[2] < b[2] ? [a, b] : [b, a]))
    .filter(([, b]) => b[2] > 2 * NEAR)
    .map(([a, b]) => {
      const cut = 2 * NEAR; // what lies behind the eye has no place on the screen
      const start = a[2] < cut ? add(a, add(b, a, -1), (cut - a[2]) / (b[2] - a[2])) : a;
      return `M${toScreen(start)}L${toScreen(b)}`;
    })
    .join("");
}
