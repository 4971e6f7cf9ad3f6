// Reads the animated splat that gs4d writes (docs/format.md): glTF with KHR_gaussian_splatting and morph targets.

import { DEFAULT_ORBIT, type Orbit, clamp } from "./camera.ts";
import type { Splats, Target } from "./splats.ts";

interface View {
  bufferView: number;
}

interface Accessor {
  bufferView?: number;
  /** Rows that are not zero, and what is in them. */
  sparse?: { count: number; indices: View & { componentType: number }; values: View };
  componentType: number;
  normalized?: boolean;
  count: number;
  type: string;
}

interface Gltf {
  accessors: Accessor[];
  bufferViews: { byteOffset?: number; byteLength: number; byteStride?: number }[];
  nodes: { mesh?: number; translation?: number[]; scale?: number[] }[];
  meshes: {
    primitives: { attributes: Record<string, number>; targets?: Record<string, number>[] }[];
    extras?: { gs4d?: { units?: Record<string, number[]> } };
  }[];
  animations?: { samplers: { input: number; output: number }[] }[];
  scenes: { extras?: { gs4d?: { version: number; frames: number; fps: number; orbits: Record<string, Orbit> } } }[];
}

export const SH_C0 = 0.28209479177387814;
const MAGIC = 0x46546c67;
const EXTENSION = "KHR_gaussian_splatting:";
const WIDTHS: Record<string, number> = { SCALAR: 1, VEC3: 3, VEC4: 4 };

/** Throws an Error whose message is one sentence. */
export function readGlb(bytes: ArrayBuffer): Splats {
  try {
    return decode(bytes);
  } catch (error) {
    if (error instanceof Foreign) throw error;
    throw new Error("The splat inside this page is damaged; export it again.");
  }
}

class Foreign extends Error {}

function decode(bytes: ArrayBuffer): Splats {
  const header = new DataView(bytes);
  if (header.getUint32(0, true) !== MAGIC) throw new Foreign("What this page holds is no .glb file; export it again.");
  const length = header.getUint32(12, true);
  const gltf = JSON.parse(new TextDecoder().decode(new Uint8Array(bytes, 20, length))) as Gltf;
  const read = (index: number): Float32Array => readAccessor(gltf, gltf.accessors[index], bytes, 28 + length);
  const facts = gltf.scenes[0].extras?.gs4d;
  if (facts?.version !== 1) throw new Foreign("This page plays splats written by gs4d in format 1; export it again.");

  const node = gltf.nodes.find((n) => n.mesh !== undefined);
  if (node?.mesh === undefined) throw new Foreign("The .glb inside this page holds no splats.");
  const mesh = gltf.meshes[node.mesh];
  const { attributes, targets = [] } = mesh.primitives[0];
  const units = mesh.extras?.gs4d?.units ?? {};
  const scale = node.scale?.[0] ?? 1;
  const offset = node.translation ?? [0, 0, 0];

  const means = read(attributes.POSITION).map((x, i) => x * scale + offset[i % 3]);
  const count = means.length / 3;
  const opacities = read(attributes[`${EXTENSION}OPACITY`]);
  const move = (target: Record<string, number>, name: string, unit: number): Float32Array | null =>
    name in target ? read(target[name]).map((x) => x * unit) : null;
  const sampler = gltf.animations?.[0]?.samplers[0];
  const seconds = sampler ? read(sampler.input) : new Float32Array(1);
  const end = seconds[seconds.length - 1];

  return {
    count,
    means,
    quats: read(attributes[`${EXTENSION}ROTATION`]),
    logScales: read(attributes[`${EXTENSION}SCALE`]).map((s) => Math.log(s * scale)),
    logits: opacities.map((o) => clamp(Math.log(o / (1 - o)), -20, 20)),
    ...readHarmonics(attributes, read, count),
    targets: targets.map((target, k): Target => {
      const unit = (name: string): number => units[name]?.[k] ?? 1;
      return {
        means: move(target, "POSITION", scale),
        quats: move(target, "_ROTATION", unit("_ROTATION")),
        logScales: move(target, "_LOG_SCALE", unit("_LOG_SCALE")),
        logits: move(target, "_LOGIT_OPACITY", unit("_LOGIT_OPACITY")),
        colors: move(target, "_SH_DEGREE_0", SH_C0 * unit("_SH_DEGREE_0")),
      };
    }),
    times: end > 0 ? seconds.map((s) => s / end) : seconds,
    weights: sampler ? read(sampler.output) : new Float32Array(0),
    seconds: end,
    frames: facts.frames,
    input: { ...DEFAULT_ORBIT, ...facts.orbits.input, target: [0, 0, 0] },
  };
}

function readAccessor(gltf: Gltf, accessor: Accessor, bytes: ArrayBuffer, bin: number): Float32Array {
  const { count, componentType, sparse } = accessor;
  const width = WIDTHS[accessor.type];
  const values = new Float32Array(count * width); // zeros, where the file holds nothing
  const open = ({ bufferView }: View, type: number): Raw => {
    const view = gltf.bufferViews[bufferView];
    return components(type, bytes, bin + (view.byteOffset ?? 0), view.byteLength);
  };
  const fill = (raw: Raw, step: number, rows: number, place: (row: number) => number): void => {
    const signed = componentType === 5120 || componentType === 5122;
    const unit = accessor.normalized ? 1 / (2 ** (8 * raw.BYTES_PER_ELEMENT - (signed ? 1 : 0)) - 1) : 1;
    const least = accessor.normalized ? -1 : -Infinity;
    for (let i = 0; i < rows; i++) {
      for (let j = 0; j < width; j++) values[place(i) * width + j] = Math.max(raw[i * step + j] * unit, least);
    }
  };
  if (accessor.bufferView !== undefined) {
    const raw = open({ bufferView: accessor.bufferView }, componentType);
    const stride = gltf.bufferViews[accessor.bufferView].byteStride ?? width * raw.BYTES_PER_ELEMENT;
    fill(raw, stride / raw.BYTES_PER_ELEMENT, count, (row) => row);
  }
  if (sparse !== undefined) {
    const places = open(sparse.indices, sparse.indices.componentType);
    fill(open(sparse.values, componentType), width, sparse.count, (row) => places[row]);
  }
  return values;
}

type Raw = Int8Array | Uint8Array | Int16Array | Uint16Array | Uint32Array | Float32Array;

function components(type: number, bytes: ArrayBuffer, start: number, length: number): Raw {
  switch (type) {
    case 5120:
      return new Int8Array(bytes, start, length);
    case 5121:
      return new Uint8Array(bytes, start, length);
    case 5122:
      return new Int16Array(bytes, start, length / 2);
    case 5123:
      return new Uint16Array(bytes, start, length / 2);
    case 5125:
      return new Uint32Array(bytes, start, length / 4);
    case 5126:
      return new Float32Array(bytes, start, length / 4);
    default:
      throw new Error(`component type ${type}`);
  }
}

function readHarmonics(
  attributes: Record<string, number>,
  read: (index: number) => Float32Array,
  count: number,
): { degree: number; harmonics: Float32Array } {
  let degree = 0;
  while (degree < 3 && `${EXTENSION}SH_DEGREE_${degree + 1}_COEF_0` in attributes) degree++;
  const columns = (degree + 1) ** 2;
  const harmonics = new Float32Array(count * columns * 3);
  for (let l = 0, column = 0; l <= degree; l++) {
    for (let n = 0; n <= 2 * l; n++, column++) {
      const values = read(attributes[`${EXTENSION}SH_DEGREE_${l}_COEF_${n}`]);
      for (let i = 0; i < count; i++) harmonics.set(values.subarray(3 * i, 3 * i + 3), (i * columns + column) * 3);
    }
  }
  return { degree, harmonics };
}
