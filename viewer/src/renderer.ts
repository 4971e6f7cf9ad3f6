// Draws splats with WebGL2: into a floating-point picture first, so that hundreds of faint layers do not round away, then
// over the background.

import { type Orbit, focalOf, poseOf } from "./camera.ts";
import { SH_C0 } from "./glb.ts";
import {
  type Moving,
  SCREEN_FRAGMENT_SHADER,
  SCREEN_VERTEX_SHADER,
  SPLAT_FRAGMENT_SHADER,
  moveTexels,
  movingOf,
  splatVertexShader,
} from "./shaders.ts";
import type { Splats } from "./splats.ts";

const ORDER_COLUMNS = 1024;
const CORNERS = [0, 1, 2, 2, 1, 3];
const TOO_MANY = "These splats are more than this device's graphics memory can hold; export fewer.";

export interface Background {
  /** RGB in [0, 1]. */
  color: [number, number, number];
  /** Edge of the squares of a checkerboard in pixels; 0 for the plain colour. */
  square: number;
}

interface Scene {
  program: WebGLProgram;
  textures: WebGLTexture[];
  /** Far to near: the indices of the splats, in a texture of this many rows. */
  order: WebGLTexture;
  rows: number;
  targets: number;
  count: number;
}

interface Surface {
  picture: WebGLTexture;
  frame: WebGLFramebuffer;
  width: number;
  height: number;
}

export class Renderer {
  private readonly gl: WebGL2RenderingContext;
  private readonly screen: WebGLProgram;
  private readonly quads: WebGLVertexArrayObject;
  private readonly largest: number;
  private readonly deep: boolean;
  private scene: Scene | null = null;
  private surface: Surface | null = null;

  /** Throws an Error whose message is one sentence. */
  constructor(private readonly canvas: HTMLCanvasElement) {
    const gl = canvas.getContext("webgl2", { alpha: false, antialias: false, depth: false, powerPreference: "high-performance" });
    if (gl === null) {
      throw new Error("This browser offers no WebGL2, which is needed to draw splats; switch on hardware acceleration or try another.");
    }
    this.gl = gl;
    this.deep = [gl.getExtension("EXT_color_buffer_float"), gl.getExtension("EXT_color_buffer_half_float")].some(Boolean);
    this.screen = link(gl, SCREEN_VERTEX_SHADER, SCREEN_FRAGMENT_SHADER);
    this.quads = gl.createVertexArray();
    this.largest = gl.getParameter(gl.MAX_TEXTURE_SIZE) as number;
    gl.bindVertexArray(this.quads);
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, gl.createBuffer());
    gl.bindVertexArray(null);
  }

  /** Puts splats on the GPU in the place of earlier ones, with the order to begin with. */
  load(splats: Splats, order: Uint32Array): void {
    const { gl } = this;
    const moving = movingOf(splats);
    const rows = Math.max(1, Math.ceil(splats.count / ORDER_COLUMNS));
    if (rows > this.largest) throw new Error(TOO_MANY);
    const sorted = gl.createTexture();
    gl.bindTexture(gl.TEXTURE_2D, sorted);
    gl.texStorage2D(gl.TEXTURE_2D, 1, gl.R32UI, ORDER_COLUMNS, rows);
    pointwise(gl);
    const scene: Scene = {
      program: link(gl, splatVertexShader(splats, moving), SPLAT_FRAGMENT_SHADER),
      textures: [
        this.texture(baseTexels(splats), gl.RGBA32F),
        this.texture(movedTexels(splats, moving), gl.RGBA16F),
        this.texture(harmonicTexels(splats), gl.RGBA16F),
      ],
      order: sorted,
      rows,
      targets: splats.targets.length,
      count: splats.count,
    };
    if (this.scene !== null) {
      gl.deleteProgram(this.scene.program);
      [this.scene.order, ...this.scene.textures].forEach((t) => gl.deleteTexture(t));
    }
    const corners = new Uint32Array(6 * splats.count).map((_, i) => 4 * Math.floor(i / 6) + CORNERS[i % 6]);
    gl.bindVertexArray(this.quads);
    gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, corners, gl.STATIC_DRAW);
    gl.bindVertexArray(null);
    this.scene = scene;
    this.reorder(order);
  }

  reorder(order: Uint32Array): void {
    const { gl, scene } = this;
    if (scene === null) return;
    const padded = new Uint32Array(ORDER_COLUMNS * scene.rows);
    padded.set(order);
    gl.bindTexture(gl.TEXTURE_2D, scene.order);
    gl.texSubImage2D(gl.TEXTURE_2D, 0, 0, 0, ORDER_COLUMNS, scene.rows, gl.RED_INTEGER, gl.UNSIGNED_INT, padded);
  }

  /**
   * Draws on the canvas at its present size; `quality` in (0, 1] is the share of its pixels per axis that are
   * computed, `margin` the share of its height at the bottom that is left to the controls.
   */
  draw(orbit: Orbit, weights: Float32Array, background: Background, quality: number, margin: number): void {
    const { gl, canvas } = this;
    const width = Math.max(1, Math.round(canvas.width * quality));
    const height = Math.max(1, Math.round(canvas.height * quality));
    if (this.surface?.width !== width || this.surface.height !== height) {
      this.drop(this.surface);
      this.surface = this.makeSurface(width, height, this.deep);
    }
    this.splat(this.surface, orbit, weights, margin);
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
    this.show(this.surface, canvas.width, canvas.height, background, false);
  }

  /** Pixels of one picture, top row first, straight alpha: over the background, or without any when that is null. */
  capture(orbit: Orbit, weights: Float32Array, background: Background | null, width: number, height: number): ImageData {
    const { gl } = this;
    const surface = this.makeSurface(width, height, this.deep);
    const shown = this.makeSurface(width, height, false);
    this.splat(surface, orbit, weights, 0);
    gl.bindFramebuffer(gl.FRAMEBUFFER, shown.frame);
    this.show(surface, width, height, background ?? { color: [0, 0, 0], square: 0 }, background === null);
    const bytes = new Uint8Array(width * height * 4);
    gl.readPixels(0, 0, width, height, gl.RGBA, gl.UNSIGNED_BYTE, bytes);
    this.drop(surface);
    this.drop(shown);
    const image = new ImageData(width, height);
    for (let y = 0; y < height; y++) {
      image.data.set(bytes.subarray((height - 1 - y) * width * 4, (height - y) * width * 4), y * width * 4);
    }
    return image;
  }

  private splat(surface: Surface, orbit: Orbit, weights: Float32Array, margin: number): void {
    const { gl, scene } = this;
    const { width, height } = surface;
    gl.bindFramebuffer(gl.FRAMEBUFFER, surface.frame);
    gl.viewport(0, 0, width, height);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT);
    if (scene === null) return;
    const { program } = scene;
    const where = (name: string): WebGLUniformLocation | null => gl.getUniformLocation(program, name);
    const pose = poseOf(orbit);
    gl.useProgram(program);
    const textures = [...scene.textures, scene.order];
    ["base", "moves", "harmonics", "order"].forEach((name, unit) => {
      gl.activeTexture(gl.TEXTURE0 + unit);
      gl.bindTexture(gl.TEXTURE_2D, textures[unit]);
      gl.uniform1i(where(name), unit);
    });
    if (scene.targets > 0) {
      const padded = new Float32Array(4 * Math.ceil(scene.targets / 4));
      padded.set(weights);
      gl.uniform4fv(where("weights"), padded);
    }
    gl.uniformMatrix3fv(where("rotation"), true, [...pose.right, ...pose.down, ...pose.forward]);
    gl.uniform3fv(where("center"), pose.center);
    gl.uniform2f(where("viewport"), width, height);
    gl.uniform1f(where("margin"), margin * height);
    gl.uniform1f(where("focal"), focalOf(orbit, width, (1 - margin) * height));
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    gl.bindVertexArray(this.quads);
    gl.drawElements(gl.TRIANGLES, 6 * scene.count, gl.UNSIGNED_INT, 0);
    gl.bindVertexArray(null);
  }

  private show(surface: Surface, width: number, height: number, background: Background, bare: boolean): void {
    const { gl, screen } = this;
    gl.viewport(0, 0, width, height);
    gl.disable(gl.BLEND);
    gl.useProgram(screen);
    gl.activeTexture(gl.TEXTURE0);
    gl.bindTexture(gl.TEXTURE_2D, surface.picture);
    gl.uniform1i(gl.getUniformLocation(screen, "picture"), 0);
    gl.uniform3fv(gl.getUniformLocation(screen, "color"), background.color);
    gl.uniform1f(gl.getUniformLocation(screen, "square"), background.square);
    gl.uniform1i(gl.getUniformLocation(screen, "bare"), Number(bare));
    gl.drawArrays(gl.TRIANGLES, 0, 3);
  }

  private makeSurface(width: number, height: number, deep: boolean): Surface {
    const { gl } = this;
    const picture = gl.createTexture();
    const frame = gl.createFramebuffer();
    gl.bindTexture(gl.TEXTURE_2D, picture);
    gl.texStorage2D(gl.TEXTURE_2D, 1, deep ? gl.RGBA16F : gl.RGBA8, width, height);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.LINEAR);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_S, gl.CLAMP_TO_EDGE);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_T, gl.CLAMP_TO_EDGE);
    gl.bindFramebuffer(gl.FRAMEBUFFER, frame);
    gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, picture, 0);
    return { picture, frame, width, height };
  }

  private drop(surface: Surface | null): void {
    if (surface === null) return;
    this.gl.deleteTexture(surface.picture);
    this.gl.deleteFramebuffer(surface.frame);
  }

  /** A texture of texels that shaders read one by one, filled row by row. */
  private texture(texels: Float32Array, format: number): WebGLTexture {
    const { gl } = this;
    const width = Math.min(this.largest, 4096);
    const height = Math.max(1, Math.ceil(texels.length / 4 / width));
    if (height > this.largest) throw new Error(TOO_MANY);
    const padded = new Float32Array(width * height * 4);
    padded.set(texels);
    const texture = gl.createTexture();
    gl.bindTexture(gl.TEXTURE_2D, texture);
    pointwise(gl);
    gl.texImage2D(gl.TEXTURE_2D, 0, format, width, height, 0, gl.RGBA, gl.FLOAT, padded);
    return texture;
  }
}

function baseTexels(splats: Splats): Float32Array {
  const { count, means, quats, logScales, logits, harmonics, degree } = splats;
  const columns = (degree + 1) ** 2;
  const texels = new Float32Array(16 * count);
  for (let i = 0; i < count; i++) {
    const at = 16 * i;
    texels.set(means.subarray(3 * i, 3 * i + 3), at);
    texels[at + 3] = logits[i];
    texels.set(quats.subarray(4 * i, 4 * i + 4), at + 4);
    texels.set(logScales.subarray(3 * i, 3 * i + 3), at + 8);
    for (let c = 0; c < 3; c++) texels[at + 12 + c] = 0.5 + SH_C0 * harmonics[3 * columns * i + c];
  }
  return texels;
}

function movedTexels({ count, targets }: Splats, moving: Moving): Float32Array {
  const stride = 4 * moveTexels(moving);
  const texels = new Float32Array(count * stride);
  const put = (values: Float32Array | null, width: number, offset: number): void => {
    if (values === null) return;
    for (let i = 0; i < count; i++) {
      for (let c = 0; c < width; c++) texels[i * stride + offset + c] = values[width * i + c];
    }
  };
  targets.forEach((target, k) => {
    const { means, quats, logScales } = moving;
    put(target.means, 3, 4 * k);
    put(target.logits, 1, 4 * k + 3);
    put(target.quats, 4, 4 * (means + k));
    put(target.logScales, 3, 4 * (means + quats + k));
    put(target.colors, 3, 4 * (means + quats + logScales + k));
  });
  return texels;
}

function harmonicTexels({ count, harmonics, degree }: Splats): Float32Array {
  const rest = (degree + 1) ** 2 - 1;
  const texels = new Float32Array(4 * count * rest);
  for (let i = 0; i < count; i++) {
    for (let j = 0; j < rest; j++) {
      const from = 3 * (i * (rest + 1) + 1 + j);
      texels.set(harmonics.subarray(from, from + 3), 4 * (i * rest + j));
    }
  }
  return texels;
}

/** For the bound texture: texels are read as they are. */
function pointwise(gl: WebGL2RenderingContext): void {
  gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.NEAREST);
  gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MAG_FILTER, gl.NEAREST);
}

function link(gl: WebGL2RenderingContext, vertex: string, fragment: string): WebGLProgram {
  const program = gl.createProgram();
  const shaders = ([[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]] as const).map(([kind, source]) => {
    const shader = gl.createShader(kind) as WebGLShader;
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    gl.attachShader(program, shader);
    return shader;
  });
  gl.linkProgram(program);
  if (!gl.getProgramParameter(program, gl.LINK_STATUS) && !gl.isContextLost()) {
    const why = shaders.map((shader) => gl.getShaderInfoLog(shader)).join(" ") || gl.getProgramInfoLog(program);
    throw new Error(`This device's graphics driver refuses the page's shaders: ${why}`);
  }
  shaders.forEach((shader) => gl.deleteShader(shader));
  return program;
}
