// The deformation field, fused: look up six planes per level, multiply, decode. gs4d/motion/hexplane.py is the
// specification. A vector holds channels (or hidden units) of one point, so planes are read in whole cache lines and no
// lane is idle. Backward repeats the forward pass block by block: storing it would move tens of megabytes per step.
// Sums that points share are either private to a unit and added in the order of units, or owned by one task that visits
// the points in order: the result is the same bits for any number of threads.
#include "field_kernels.h"

#include "simd.h"

namespace gs4d {
namespace GS4D_ISA {

// Where a point lies between the texels of one axis.
struct Cell {
    int64_t first;
    float fraction;
    float slope;  // texels per unit; zero outside the box
};

// The working set of a block of points.
struct Block {
    int64_t begin, features;
    int count;
    Cell* cells;    // (FIELD_BLOCK, levels, 3)
    float* space;   // (FIELD_BLOCK, f): product of the spatial planes
    float* inputs;  // (FIELD_BLOCK, f): what the decoder sees
    float* hidden;  // (FIELD_BLOCK, h)
    float* outputs; // (FIELD_BLOCK, 16)
    float* grad_inputs;
    float* grad_hidden;
    float* grad_space;
    float* grad_unit;  // (FIELD_BLOCK, 3, W), still to be summed over lanes
};

static int64_t scratch_size(const Field& f) {
    int64_t features = int64_t(f.levels) * f.channels;
    int64_t cells = sizeof(Cell) / sizeof(float) * f.levels * 3;
    return FIELD_BLOCK * (cells + 4 * features + 2 * f.hidden + FIELD_OUTPUTS + 3 * W);
}

static Block carve(const Field& f, float* scratch) {
    Block b;
    b.features = int64_t(f.levels) * f.channels;
    auto take = [&](int64_t floats) {
        float* start = scratch;
        scratch += FIELD_BLOCK * floats;
        return start;
    };
    b.space = take(b.features), b.inputs = take(b.features), b.hidden = take(f.hidden), b.outputs = take(FIELD_OUTPUTS);
    b.grad_inputs = take(b.features), b.grad_hidden = take(f.hidden), b.grad_space = take(b.features);
    b.grad_unit = take(3 * W);
    b.cells = (Cell*)scratch;
    return b;
}

INLINE Cell cell(float unit, int64_t resolution) {
    bool inside = unit > 0 && unit < 1;
    float place = (inside ? unit : unit >= 1 ? 1.0f : 0.0f) * float(resolution - 1);  // a NaN goes to 0
    int64_t first = int64_t(place);
    if (first > resolution - 2) first = resolution - 2;
    return {first, place - float(first), inside ? float(resolution - 1) : 0.0f};
}

INLINE vf lerp(vf a, vf b, vf t) { return fma(t, b - a, a); }

// The four texels around a point and their blend, with its derivatives by both fractions.
struct Bilinear {
    vf value, by_row, by_column;
};
INLINE Bilinear bilinear(const float* p, int64_t down, int64_t right, vf row, vf column) {
    vf a = load(p), b = load(p + right), c = load(p + down), d = load(p + down + right);
    vf top_step = b - a, bottom_step = d - c;
    vf top = fma(column, top_step, a), bottom = fma(column, bottom_step, c);
    vf step = bottom - top;
    return {fma(row, step, top), step, lerp(top_step, bottom_step, row)};
}

static const int AXES[3][2] = {{0, 1}, {0, 2}, {1, 2}};

struct Planes {
    const float* corner[3];
    int64_t down, right;
    vf row[3], column[3];
};
INLINE Planes planes_at(const Field& f, int level, const Cell* cells) {
    int64_t r = f.resolution[level];
    Planes p;
    p.right = f.channels, p.down = r * f.channels;
    for (int k = 0; k < 3; ++k) {
        const Cell &a = cells[AXES[k][0]], &b = cells[AXES[k][1]];
        p.corner[k] = f.space[level] + ((k * r + a.first) * r + b.first) * f.channels;
        p.row[k] = set1(a.fraction), p.column[k] = set1(b.fraction);
    }
    return p;
}

static void enter(const Field& f, Block& b, int64_t begin, int64_t end) {
    b.begin = begin;
    b.count = int(end - begin < FIELD_BLOCK ? end - begin : FIELD_BLOCK);
    for (int i = 0; i < FIELD_BLOCK; ++i) {
        const float* unit = f.unit + 3 * (begin + (i < b.count ? i : b.count - 1));  // the rest repeats the last point
        for (int level = 0; level < f.levels; ++level) {
            Cell* cells = b.cells + (i * f.levels + level) * 3;
            for (int axis = 0; axis < 3; ++axis) cells[axis] = cell(unit[axis], f.resolution[level]);
            Planes p = planes_at(f, level, cells);
            float* out = b.space + i * b.features + level * f.channels;
            for (int c = 0; c < f.channels; c += W) {
                vf product = set1(1);
                for (int k = 0; k < 3; ++k)
                    product = product * bilinear(p.corner[k] + c, p.down, p.right, p.row[k], p.column[k]).value;
                store(out + c, product);
            }
        }
    }
}

// c[rows, columns] = init + a[rows, depth] b[depth, columns]; ROWS x VECS accumulators stay in registers.
template <int ROWS, int VECS>
INLINE void tile(int64_t depth, const float* a, int64_t a_row, int64_t a_depth, const float* b, int64_t b_row,
                 const float* init, int64_t init_row, float* c, int64_t c_row) {
    vf sums[ROWS][VECS];
    for (int i = 0; i < ROWS; ++i)
        for (int v = 0; v < VECS; ++v) sums[i][v] = init ? load(init + i * init_row + v * W) : zero();
    for (int64_t k = 0; k < depth; ++k) {
        vf line[VECS];
        for (int v = 0; v < VECS; ++v) line[v] = load(b + k * b_row + v * W);
        for (int i = 0; i < ROWS; ++i) {
            vf factor = set1(a[i * a_row + k * a_depth]);
            for (int v = 0; v < VECS; ++v) sums[i][v] = fma(factor, line[v], sums[i][v]);
        }
    }
    for (int i = 0; i < ROWS; ++i)
        for (int v = 0; v < VECS; ++v) store(c + i * c_row + v * W, sums[i][v]);
}

// Rows come in multiples of 8 and columns in multiples of 16. ``init`` null means zero, init_row 0 repeats one row.
static void multiply(int64_t rows, int64_t depth, int64_t columns, const float* a, int64_t a_row, int64_t a_depth,
                     const float* b, int64_t b_row, const float* init, int64_t init_row, float* c, int64_t c_row) {
    constexpr int WIDE = W == 16 ? 4 : 2;
    int64_t j = 0;
    for (; j + WIDE * W <= columns; j += WIDE * W)
        for (int64_t i = 0; i < rows; i += 4)
            tile<4, WIDE>(depth, a + i * a_row, a_row, a_depth, b + j, b_row, init ? init + i * init_row + j : init,
                          init_row, c + i * c_row + j, c_row);
    for (; j < columns; j += W)
        for (int64_t i = 0; i < rows; i += 8)
            tile<8, 1>(depth, a + i * a_row, a_row, a_depth, b + j, b_row, init ? init + i * init_row + j : init,
                       init_row, c + i * c_row + j, c_row);
}

struct Lines {
    const float* texels[3];
    int64_t offset[3];  // of the first texel in (3, t, r, c)
    vf fraction[3];
};
INLINE Lines lines_at(const Field& f, int level, int64_t time, const Cell* cells) {
    Lines l;
    for (int axis = 0; axis < 3; ++axis) {
        l.offset[axis] = ((axis * f.times + time) * f.resolution[level] + cells[axis].first) * f.channels;
        l.texels[axis] = f.rows[level] + l.offset[axis];
        l.fraction[axis] = set1(cells[axis].fraction);
    }
    return l;
}

// Features at one time, and the hidden layer.
static void encode(const Field& f, Block& b, int64_t time) {
    for (int i = 0; i < FIELD_BLOCK; ++i)
        for (int level = 0; level < f.levels; ++level) {
            Lines l = lines_at(f, level, time, b.cells + (i * f.levels + level) * 3);
            int64_t at = i * b.features + level * f.channels;
            for (int c = 0; c < f.channels; c += W) {
                vf product = load(b.space + at + c);
                for (int axis = 0; axis < 3; ++axis) {
                    const float* p = l.texels[axis] + c;
                    product = product * lerp(load(p), load(p + f.channels), l.fraction[axis]);
                }
                store(b.inputs + at + c, product);
            }
        }
    multiply(FIELD_BLOCK, b.features, f.hidden, b.inputs, b.features, 1, f.w1, f.hidden, f.b1, 0, b.hidden, f.hidden);
    for (int64_t i = 0; i < FIELD_BLOCK * f.hidden; i += W) store(b.hidden + i, max(load(b.hidden + i), zero()));
}

static void forward(const Field& f, int64_t unit, float* scratch) {
    Block b = carve(f, scratch);
    int64_t end = (unit + 1) * f.unit_points < f.points ? (unit + 1) * f.unit_points : f.points;
    for (int64_t begin = unit * f.unit_points; begin < end; begin += FIELD_BLOCK) {
        enter(f, b, begin, end);
        for (int64_t time = 0; time < f.times; ++time) {
            encode(f, b, time);
            multiply(FIELD_BLOCK, f.hidden, FIELD_OUTPUTS, b.hidden, f.hidden, 1, f.w2, FIELD_OUTPUTS, f.b2, 0, b.outputs,
                     FIELD_OUTPUTS);
            float* out = f.deltas + (time * f.points + begin) * f.outputs;
            for (int i = 0; i < b.count; ++i)
                for (int d = 0; d < f.outputs; ++d) out[i * f.outputs + d] = b.outputs[i * FIELD_OUTPUTS + d];
        }
    }
}

// From the gradient of the decoder's inputs to the time lines, the spatial product and the position.
static void spread_over_lines(const Field& f, Block& b, int64_t time, float* partial) {
    for (int level = 0; level < f.levels; ++level) {
        for (int i = 0; i < b.count; ++i) {
            const Cell* cells = b.cells + (i * f.levels + level) * 3;
            Lines l = lines_at(f, level, time, cells);
            int64_t at = i * b.features + level * f.channels;
            for (int c = 0; c < f.channels; c += W) {
                vf step[3], value[3];
                for (int axis = 0; axis < 3; ++axis) {
                    vf a = load(l.texels[axis] + c);
                    step[axis] = load(l.texels[axis] + f.channels + c) - a;
                    value[axis] = fma(l.fraction[axis], step[axis], a);
                }
                vf grad = load(b.grad_inputs + at + c), yz = value[1] * value[2];
                store(b.grad_space + at + c, fma(grad, value[0] * yz, load(b.grad_space + at + c)));
                vf grad_product = grad * load(b.space + at + c), rest = grad_product * value[0];
                vf grads[3] = {grad_product * yz, rest * value[2], rest * value[1]};
                for (int axis = 0; axis < 3; ++axis) {
                    float* texel = partial + l.offset[axis] + c;
                    vf far = grads[axis] * l.fraction[axis];
                    store(texel, load(texel) + (grads[axis] - far));
                    store(texel + f.channels, load(texel + f.channels) + far);
                    float* unit = b.grad_unit + (i * 3 + axis) * W;
                    store(unit, fma(grads[axis] * step[axis], set1(cells[axis].slope), load(unit)));
                }
            }
        }
        partial += 3 * f.times * f.resolution[level] * f.channels;
    }
}

// From the gradient of the spatial product to what each plane gave, and to the position.
static void spread_over_planes(const Field& f, Block& b) {
    for (int i = 0; i < b.count; ++i) {
        float* unit = b.grad_unit + i * 3 * W;
        vf by_axis[3] = {load(unit), load(unit + W), load(unit + 2 * W)};
        for (int level = 0; level < f.levels; ++level) {
            const Cell* cells = b.cells + (i * f.levels + level) * 3;
            Planes p = planes_at(f, level, cells);
            for (int c = 0; c < f.channels; c += W) {
                Bilinear at[3];
                for (int k = 0; k < 3; ++k) at[k] = bilinear(p.corner[k] + c, p.down, p.right, p.row[k], p.column[k]);
                vf grad = load(b.grad_space + i * b.features + level * f.channels + c), first = grad * at[0].value;
                vf grads[3] = {grad * (at[1].value * at[2].value), first * at[2].value, first * at[1].value};
                for (int k = 0; k < 3; ++k) {
                    store(f.grad_features + ((level * 3 + k) * f.points + b.begin + i) * f.channels + c, grads[k]);
                    int row = AXES[k][0], column = AXES[k][1];
                    by_axis[row] = fma(grads[k] * at[k].by_row, set1(cells[row].slope), by_axis[row]);
                    by_axis[column] = fma(grads[k] * at[k].by_column, set1(cells[column].slope), by_axis[column]);
                }
            }
        }
        for (int axis = 0; axis < 3; ++axis) f.grad_unit[(b.begin + i) * 3 + axis] = sum(by_axis[axis]);
    }
}

INLINE void add_rows(const float* values, int64_t columns, float* total) {
    for (int64_t j = 0; j < columns; j += W) {
        vf sums = load(total + j);
        for (int i = 0; i < FIELD_BLOCK; ++i) sums = sums + load(values + i * columns + j);
        store(total + j, sums);
    }
}

static void backward(const Field& f, int64_t unit, float* scratch) {
    Block b = carve(f, scratch);
    float* partial = f.partials + unit * f.partial_size;
    memset(partial, 0, f.partial_size * sizeof(float));
    float* grad_b2 = partial + f.partial_size - FIELD_OUTPUTS;
    float* grad_w2 = grad_b2 - FIELD_OUTPUTS * f.hidden;
    float* grad_b1 = grad_w2 - f.hidden;
    float* grad_w1 = grad_b1 - b.features * f.hidden;
    int64_t end = (unit + 1) * f.unit_points < f.points ? (unit + 1) * f.unit_points : f.points;
    for (int64_t begin = unit * f.unit_points; begin < end; begin += FIELD_BLOCK) {
        enter(f, b, begin, end);
        memset(b.grad_space, 0, FIELD_BLOCK * b.features * sizeof(float));
        memset(b.grad_unit, 0, FIELD_BLOCK * 3 * W * sizeof(float));
        memset(b.outputs, 0, FIELD_BLOCK * FIELD_OUTPUTS * sizeof(float));  // from here on: their gradient
        for (int64_t time = 0; time < f.times; ++time) {
            encode(f, b, time);
            const float* in = f.grad_deltas + (time * f.points + begin) * f.outputs;
            for (int i = 0; i < b.count; ++i)
                for (int d = 0; d < f.outputs; ++d) b.outputs[i * FIELD_OUTPUTS + d] = in[i * f.outputs + d];
            add_rows(b.outputs, FIELD_OUTPUTS, grad_b2);
            multiply(FIELD_OUTPUTS, FIELD_BLOCK, f.hidden, b.outputs, 1, FIELD_OUTPUTS, b.hidden, f.hidden, grad_w2,
                     f.hidden, grad_w2, f.hidden);
            multiply(FIELD_BLOCK, f.outputs, f.hidden, b.outputs, FIELD_OUTPUTS, 1, f.w2_transposed, f.hidden, nullptr, 0,
                     b.grad_hidden, f.hidden);
            for (int64_t i = 0; i < FIELD_BLOCK * f.hidden; i += W)
                store(b.grad_hidden + i, zero_unless(gt(load(b.hidden + i), zero()), load(b.grad_hidden + i)));
            add_rows(b.grad_hidden, f.hidden, grad_b1);
            multiply(b.features, FIELD_BLOCK, f.hidden, b.inputs, 1, b.features, b.grad_hidden, f.hidden, grad_w1,
                     f.hidden, grad_w1, f.hidden);
            multiply(FIELD_BLOCK, f.hidden, b.features, b.grad_hidden, f.hidden, 1, f.w1_transposed, b.features, nullptr,
                     0, b.grad_inputs, b.features);
            spread_over_lines(f, b, time, partial);
        }
        spread_over_planes(f, b);
    }
}

static void scatter(const Field& f, int64_t plane) {
    int level = int(plane / 3), k = int(plane % 3);
    int64_t r = f.resolution[level], right = f.channels, down = r * f.channels;
    float* texels = f.grad_space[level] + k * r * down;
    memset(texels, 0, r * down * sizeof(float));
    const float* grads = f.grad_features + plane * f.points * f.channels;
    for (int64_t i = 0; i < f.points; ++i) {
        Cell row = cell(f.unit[3 * i + AXES[k][0]], r), column = cell(f.unit[3 * i + AXES[k][1]], r);
        float* corner = texels + (row.first * r + column.first) * f.channels;
        for (int c = 0; c < f.channels; c += W) {
            vf grad = load(grads + i * f.channels + c), bottom = grad * set1(row.fraction), top = grad - bottom;
            vf top_right = top * set1(column.fraction), bottom_right = bottom * set1(column.fraction);
            float* p = corner + c;
            store(p, load(p) + (top - top_right));
            store(p + right, load(p + right) + top_right);
            store(p + down, load(p + down) + (bottom - bottom_right));
            store(p + down + right, load(p + down + right) + bottom_right);
        }
    }
}

static void reduce(const Field& f, int64_t begin, int64_t end) {
    for (int64_t j = begin; j < end; j += W) {
        vf total = zero();
        for (int64_t unit = 0; unit < f.units; ++unit) total = total + load(f.partials + unit * f.partial_size + j);
        store(f.grad_rest + j, total);
    }
}

extern const FieldKernels field_kernels;
const FieldKernels field_kernels = {scratch_size, forward, backward, scatter, reduce};

}  // namespace GS4D_ISA
}  // namespace gs4d
