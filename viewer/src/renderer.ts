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

export interface Background {
  /** RGB in [0, 1]. */
  color: [number, number, number];
  /** Edge of the squares of a checkerboard in pixels; 0 for the plain colour. */
  square: number;
}

interface Scene {
  program: WebGLProgram;
  textures: WebGLTexture[];
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
  private readonly order: WebGLBuffer;
  private readonly deep: boolean;
  private scene: Scene | null = null;
  private surface: Surface | null = null;
  private ordered = 0;

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
    this.order = gl.createBuffer();
    gl.bindVertexArray(this.quads);
    gl.bindBuffer(gl.ARRAY_BUFFER, this.order);
    gl.enableVertexAttribArray(0);
    gl.vertexAttribIPointer(0, 1, gl.UNSIGNED_INT, 0, 0);
    gl.vertexAttribDivisor(0, 1);
    gl.bindVertexArray(null);
  }

  /** Puts splats on the GPU in the place of earlier ones, with the order to begin with. */
  load(splats: Splats, order: Uint32Array): void {
    const { gl } = this;
    const moving = movingOf(splats);
    const scene: Scene = {
      program: link(gl, splatVertexShader(splats, moving), SPLAT_FRAGMENT_SHADER),
      textures: [
        this.texture(baseTexels(splats), gl.RGBA32F),
        this.texture(movedTexels(splats, moving), gl.RGBA16F),
        this.texture(harmonicTexels(splats), gl.RGBA16F),
      ],
      targets: splats.targets.length,
      count: splats.count,
    };
    if (this.scene !== null) {
      gl.deleteProgram(this.scene.program);
      this.scene.textures.forEach((t) => gl.deleteTexture(t));
    }
    this.scene = scene;
    this.reorder(order);
  }

  reorder(order: Uint32Array): void {
    const { gl } = this;
    gl.bindBuffer(gl.ARRAY_BUFFER, this.order);
    gl.bufferData(gl.ARRAY_BUFFER, order, gl.DYNAMIC_DRAW);
    this.ordered = order.length;
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
    ["base", "moves", "harmonics"].forEach((name, unit) => {
      gl.activeTexture(gl.TEXTURE0 + unit);
      gl.bindTexture(gl.TEXTURE_2D, scene.textures[unit]);
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
    gl.drawArraysInstanced(gl.TRIANGLE_STRIP, 0, 4, this.ordered);
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
    const largest = gl.getParameter(gl.MAX_TEXTURE_SIZE) as number;
    const width = Math.min(largest, 4096);
    const height = Math.max(1, Math.ceil(texels.length / 4 / width));
    if (height > largest) throw new Error("These splats are more than this device's graphics memory can hold; export fewer.");
    const padded = new Float32Array(width * height * 4);
    padded.set(texels);
    const texture = gl.createTexture();
    gl.bindTexture(gl.TEXTURE_2D, texture);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.NEAREST);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MAG_FILTER, gl.NEAREST);
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
