// The rasterizer's formulas (gs4d/render/reference.py) with its numbers (gs4d/render/constants.py), a quad per splat.
// Corner c of the splat that is drawn as number s has the vertex index 4 s + c. Instances of four vertices would be simpler,
// and slow: many drivers begin each one anew.

import type { Splats, Target } from "./splats.ts";

/** How many of the first targets change each value of a Gaussian; its texels hold these changes one value after another. */
export interface Moving {
  /** Means, with the logits beside them. */
  means: number;
  quats: number;
  logScales: number;
  colors: number;
}

export function movingOf({ targets }: Splats): Moving {
  const count = (has: (target: Target) => boolean): number => targets.reduce((last, t, k) => (has(t) ? k + 1 : last), 0);
  return {
    means: count((t) => t.means !== null || t.logits !== null),
    quats: count((t) => t.quats !== null),
    logScales: count((t) => t.logScales !== null),
    colors: count((t) => t.colors !== null),
  };
}

export const moveTexels = (moving: Moving): number => moving.means + moving.quats + moving.logScales + moving.colors;

const BASIS = [
  "",
  "-0.4886025119 * d.y, 0.4886025119 * d.z, -0.4886025119 * d.x",
  `1.0925484306 * d.x * d.y, -1.0925484306 * d.y * d.z, 0.3153915653 * (2.0 * d.z * d.z - d.x * d.x - d.y * d.y),
   -1.0925484306 * d.x * d.z, 0.5462742153 * (d.x * d.x - d.y * d.y)`,
  `-0.5900435899 * d.y * (3.0 * d.x * d.x - d.y * d.y), 2.8906114426 * d.x * d.y * d.z,
   -0.4570457995 * d.y * (4.0 * d.z * d.z - d.x * d.x - d.y * d.y),
   0.3731763326 * d.z * (2.0 * d.z * d.z - 3.0 * d.x * d.x - 3.0 * d.y * d.y),
   -0.4570457995 * d.x * (4.0 * d.z * d.z - d.x * d.x - d.y * d.y), 1.4453057213 * d.z * (d.x * d.x - d.y * d.y),
   -0.5900435899 * d.x * (d.x * d.x - 3.0 * d.y * d.y)`,
];

export function splatVertexShader(splats: Splats, moving: Moving): string {
  const { degree, targets } = splats;
  const rest = (degree + 1) ** 2 - 1;
  const loop = (count: number, body: string): string =>
    `for (int k = 0; k < ${count}; k++) { vec4 change = weights[k / 4][k % 4] * texel(moves, at++); ${body} }`;
  return `#version 300 es
precision highp float;
precision highp int;
precision highp sampler2D;

const float EPS2D = 0.3;
const float ALPHA_MIN = 1.0 / 255.0;
const float NEAR = 0.01;
const float FAR = 1e10;
const float FOV_MARGIN = 0.3;

uniform highp usampler2D order;
uniform sampler2D base;
uniform sampler2D moves;
uniform sampler2D harmonics;
uniform vec4 weights[${Math.max(1, Math.ceil(targets.length / 4))}];
uniform mat3 rotation;  // world to camera: x right, y down, z forward
uniform vec3 center;
uniform vec2 viewport;
uniform float margin;  // pixels at the bottom that are left to the controls: the picture is centred above them
uniform float focal;
out vec2 place;  // in standard deviations along the axes of the ellipse
flat out vec4 paint;

vec4 texel(sampler2D image, int i) {
  int width = textureSize(image, 0).x;
  return texelFetch(image, ivec2(i % width, i / width), 0);
}

mat3 rotationOf(vec4 q) {
  q = normalize(q);
  vec3 d = q.xyz * q.xyz;
  vec3 p = q.xyz * q.yzx;
  vec3 s = q.w * q.xyz;
  return mat3(
    1.0 - 2.0 * (d.y + d.z), 2.0 * (p.x + s.z), 2.0 * (p.z - s.y),
    2.0 * (p.x - s.z), 1.0 - 2.0 * (d.x + d.z), 2.0 * (p.y + s.x),
    2.0 * (p.z + s.y), 2.0 * (p.y - s.x), 1.0 - 2.0 * (d.x + d.y)
  );
}

void main() {
  gl_Position = vec4(0.0, 0.0, 2.0, 1.0);  // outside: what is not drawn stays there
  int slot = gl_VertexID >> 2;
  int columns = textureSize(order, 0).x;
  int i = int(texelFetch(order, ivec2(slot % columns, slot / columns), 0).r);
  vec4 start = texel(base, 4 * i);
  vec3 mean = start.xyz;
  float logit = start.w;
  vec4 quat = texel(base, 4 * i + 1);
  vec3 logScale = texel(base, 4 * i + 2).xyz;
  vec3 color = texel(base, 4 * i + 3).xyz;
  int at = i * ${moveTexels(moving)};
  ${loop(moving.means, "mean += change.xyz; logit += change.w;")}
  ${loop(moving.quats, "quat += change;")}
  ${loop(moving.logScales, "logScale += change.xyz;")}
  ${loop(moving.colors, "color += change.xyz;")}

  vec3 away = mean - center;
  vec3 seen = rotation * away;
  float z = seen.z;
  if (!(z >= NEAR && z <= FAR)) return;
  vec2 limit = (1.0 + FOV_MARGIN) * 0.5 * viewport / focal;
  vec2 t = clamp(seen.xy / z, -limit, limit);
  float scale = focal / z;
  mat3 axes = rotation * rotationOf(quat);
  vec3 deviations = exp(logScale);
  vec3 across = scale * deviations * vec3(axes[0].x - t.x * axes[0].z, axes[1].x - t.x * axes[1].z, axes[2].x - t.x * axes[2].z);
  vec3 along = scale * deviations * vec3(axes[0].y - t.y * axes[0].z, axes[1].y - t.y * axes[1].z, axes[2].y - t.y * axes[2].z);
  float a = dot(across, across) + EPS2D;
  float b = dot(across, along);
  float c = dot(along, along) + EPS2D;
  float det = a * c - b * b;
  float opacity = 1.0 / (1.0 + exp(-logit));
  float level = 2.0 * log(opacity / ALPHA_MIN);
  if (!(det > 0.0 && level >= 0.0 && a + c < 1e12)) return;

  // The box around the ellipse where alpha reaches ALPHA_MIN, along the ellipse's own axes.
  float middle = 0.5 * (a + c);
  float spread = length(vec2(0.5 * (a - c), b));
  float longest = middle + spread;
  float shortest = det / longest;
  vec2 axis = abs(b) > 1e-6 * longest ? normalize(vec2(b, longest - a)) : (a >= c ? vec2(1.0, 0.0) : vec2(0.0, 1.0));
  float reach = sqrt(level) + 0.01;
  vec2 corner = vec2(gl_VertexID & 1, (gl_VertexID >> 1) & 1) * 2.0 - 1.0;
  place = reach * corner;
  vec2 offset = place.x * sqrt(longest) * axis + place.y * sqrt(shortest) * vec2(-axis.y, axis.x);
  vec2 pixel = scale * seen.xy + offset - vec2(0.0, 0.5 * margin);
  gl_Position = vec4(2.0 * pixel.x / viewport.x, -2.0 * pixel.y / viewport.y, 0.0, 1.0);
  ${
    rest > 0
      ? `vec3 d = normalize(away);
  float basis[${rest}] = float[${rest}](${BASIS.slice(1, degree + 1).join(", ")});
  for (int j = 0; j < ${rest}; j++) color += basis[j] * texel(harmonics, ${rest} * i + j).rgb;`
      : ""
  }
  paint = vec4(max(color, 0.0), opacity);
}
`;
}

export const SPLAT_FRAGMENT_SHADER = `#version 300 es
precision highp float;
const float ALPHA_MIN = 1.0 / 255.0;
const float ALPHA_MAX = 0.999;
in vec2 place;
flat in vec4 paint;
out vec4 pixel;

void main() {
  float alpha = min(paint.a * exp(-0.5 * dot(place, place)), ALPHA_MAX);
  if (alpha < ALPHA_MIN) discard;
  pixel = vec4(paint.rgb * alpha, alpha);
}
`;

export const SCREEN_VERTEX_SHADER = `#version 300 es
out vec2 uv;
void main() {
  uv = vec2(gl_VertexID & 1, gl_VertexID >> 1) * 2.0;
  gl_Position = vec4(uv * 2.0 - 1.0, 0.0, 1.0);
}
`;

// Lays the picture over the background: one colour, squares of two greys, or nothing (straight alpha, for a file).
export const SCREEN_FRAGMENT_SHADER = `#version 300 es
precision highp float;
uniform sampler2D picture;
uniform vec3 color;
uniform float square;  // pixels, 0 for one colour
uniform bool bare;
in vec2 uv;
out vec4 pixel;

void main() {
  vec4 drawn = texture(picture, uv);
  if (bare) {
    pixel = vec4(drawn.rgb / max(drawn.a, 1e-6), drawn.a);
    return;
  }
  vec3 behind = color;
  if (square > 0.0) {
    ivec2 cell = ivec2(floor(gl_FragCoord.xy / square));
    behind = vec3(((cell.x + cell.y) & 1) == 0 ? 0.84 : 0.95);
  }
  pixel = vec4(drawn.rgb + (1.0 - drawn.a) * behind, 1.0);
}
`;
