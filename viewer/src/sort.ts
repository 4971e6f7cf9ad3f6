// The order in which splats are blended, far to near. Runs in a worker; on the page itself only where there are no workers.

export interface SortInput {
  means: Float32Array;
  /** One array of changes of the means per target; null where a target leaves them. */
  moves: (Float32Array | null)[];
}

export class Sorter {
  private readonly moved: Float32Array;
  private weights: Float32Array | null = null;
  private readonly keys: Uint32Array;
  private readonly spare: [Uint32Array, Uint32Array];
  private readonly counts = new Uint32Array(2 << 16);

  constructor(private readonly input: SortInput) {
    const count = input.means.length / 3;
    this.moved = input.means.slice();
    this.keys = new Uint32Array(count);
    this.spare = [new Uint32Array(count), new Uint32Array(count)];
  }

  /** All indices, the greatest depth along `forward` first; of equal depths the later index first. */
  order(forward: ArrayLike<number>, weights: Float32Array): Uint32Array {
    this.move(weights);
    const { keys, moved, counts } = this;
    const count = keys.length;
    const depths = new Float32Array(keys.buffer);
    const [x, y, z] = [forward[0], forward[1], forward[2]];
    for (let i = 0, j = 0; i < count; i++, j += 3) depths[i] = moved[j] * x + moved[j + 1] * y + moved[j + 2] * z;

    // Two passes of a radix sort over the bits of the floats, turned so that they rise with falling depth.
    counts.fill(0);
    for (let i = 0; i < count; i++) {
      const bits = keys[i];
      const key = bits >>> 31 ? bits : ~bits & 0x7fffffff;
      keys[i] = key;
      counts[key & 0xffff]++;
      counts[0x10000 + (key >>> 16)]++;
    }
    for (let half = 0; half < 2; half++) {
      let sum = 0;
      for (let i = half << 16, end = (half + 1) << 16; i < end; i++) {
        const n = counts[i];
        counts[i] = sum;
        sum += n;
      }
    }
    const [first, second] = this.spare;
    for (let i = count - 1; i >= 0; i--) first[counts[keys[i] & 0xffff]++] = i;
    for (let i = 0; i < count; i++) second[counts[0x10000 + (keys[first[i]] >>> 16)]++] = first[i];
    return second;
  }

  private move(weights: Float32Array): void {
    const { moved, input } = this;
    if (this.weights !== null && this.weights.every((w, k) => w === weights[k])) return;
    moved.set(input.means);
    input.moves.forEach((change, k) => {
      const w = weights[k];
      if (change === null || w === 0) return;
      for (let i = 0; i < moved.length; i++) moved[i] += w * change[i];
    });
    this.weights = weights.slice();
  }
}
