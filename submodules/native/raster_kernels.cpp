// Blending of one band of an image, and its gradient. The band's Gaussians are sorted by depth once and handled slab by
// slab, nearest first: a slab's copies stay in the cache, tiles that are opaque are left out of the binning of what lies
// behind them, and memory stays bounded however many tiles each Gaussian covers. Every tile lists the Gaussians of the
// slab that cover some pixel, with one bit per pixel; the backward pass walks those lists back to front.
#include "constants.h"
#include "raster.h"
#include "simd.h"

namespace gs4d {
namespace GS4D_ISA {

namespace {

constexpr int PIXELS = TILE * TILE, GROUPS = PIXELS / W;  // a tile is GROUPS vectors of one (AVX2) or two rows of pixels
constexpr int AHEAD = 6;                                  // records fetched this long before they are needed
constexpr float LOG2_ALPHA_MIN = -7.99435344f;

struct Grid {  // of the band
    int columns, rows, first_row, tiles;
};

INLINE Grid grid_of(const BandArgs& args) {
    int first = args.index * BAND_ROWS, rows = (args.view->height + TILE - 1) / TILE - first;
    rows = rows < BAND_ROWS ? rows : BAND_ROWS;
    return {args.view->tiles_x, rows, first, rows * args.view->tiles_x};
}

template <class T>
INLINE T* room(Buffer* buffer, int64_t count, int64_t keep = 0) {
    size_t bytes = size_t(count) * sizeof(T);
    return (T*)(bytes <= buffer->bytes ? buffer->data : reserve(buffer, bytes, size_t(keep) * sizeof(T)));
}

// Which Gaussians touch the band, ascending, and where each block's begin.
NOINLINE void choose(const BandArgs& args, const Grid& grid) {
    Band* band = args.band;
    int32_t* ids = room<int32_t>(&band->ids, args.n + 1);
    int64_t* starts = room<int64_t>(&band->starts, (args.n + BLOCK - 1) / BLOCK + 1);
    int64_t count = 0;
    const int first = grid.first_row, last = grid.first_row + grid.rows - 1;
    for (int64_t i = 0; i < args.n; ++i) {
        if (i % BLOCK == 0) *starts++ = count;
        ids[count] = int32_t(i);
        count += args.rows[i].first <= last && args.rows[i].last >= first && args.rows[i].first <= args.rows[i].last;
    }
    *starts = count;
    band->count = count;
}

// Radix sort of the band's Gaussians by depth, stable. Positive floats sort as their bits do.
NOINLINE void sort(const BandArgs& args) {
    struct Key {
        uint32_t depth;
        int32_t position;
    };
    constexpr int BITS = 12, BUCKETS = 1 << BITS;
    Band* band = args.band;
    const int64_t count = band->count;
    const int32_t* ids = (const int32_t*)band->ids.data;
    Key* from = room<Key>(&args.scratch->keys, 2 * count);
    Key* to = from + count;
    uint32_t low = 0xffffffffu, high = 0;
    for (int64_t i = 0; i < count; ++i) {
        uint32_t depth;
        memcpy(&depth, &args.records[ids[i]].z, 4);
        low = depth < low ? depth : low;
        high = depth > high ? depth : high;
        from[i] = {depth, int32_t(i)};
    }
    for (int shift = 0; count && shift < 32 && (high - low) >> shift; shift += BITS) {
        uint32_t starts[BUCKETS] = {};
        for (int64_t i = 0; i < count; ++i) ++starts[(from[i].depth - low) >> shift & (BUCKETS - 1)];
        uint32_t sum = 0;
        for (uint32_t& start : starts) {
            uint32_t here = start;
            start = sum;
            sum += here;
        }
        for (int64_t i = 0; i < count; ++i) to[starts[(from[i].depth - low) >> shift & (BUCKETS - 1)]++] = from[i];
        Key* t = from;
        from = to;
        to = t;
    }
    int32_t* order = room<int32_t>(&band->order, count);
    for (int64_t i = 0; i < count; ++i) order[i] = from[i].position;
}

// Copies the records of a slab, in order.
NOINLINE Record* copy_slab(const BandArgs& args, int64_t begin, int64_t end) {
    const int32_t *ids = (const int32_t*)args.band->ids.data, *order = (const int32_t*)args.band->order.data;
    Record* slab = room<Record>(&args.scratch->slab, SLAB);
    for (int64_t i = begin; i < end; ++i) {
        if (i + AHEAD < end) __builtin_prefetch(&args.records[ids[order[i + AHEAD]]]);
        const float* from = (const float*)&args.records[ids[order[i]]];
        for (int f = 0; f < SUMS; f += W) store((float*)&slab[i - begin] + f, load(from + f));
    }
    return slab;
}

// The list of each tile: sorted[starts[tile] .. starts[tile + 1]) are positions in the slab, nearest first.
struct Lists {
    const uint16_t* sorted;
    const int32_t* starts;
};

// Tiles of a row between which something is still visible, per tile: the nearest open one at or after, and at or before.
struct Open {
    int16_t next, previous;
};

NOINLINE Lists bin(const BandArgs& args, const Grid& grid, const Record* slab, int count, const Open* open) {
    Scratch* scratch = args.scratch;
    const int columns = grid.columns;
    uint32_t* pairs = room<uint32_t>(&scratch->pairs, int64_t(SLAB) * grid.tiles + 2 * W);
    uint16_t* sorted = room<uint16_t>(&scratch->sorted, int64_t(SLAB) * grid.tiles);
    int32_t* starts = room<int32_t>(&scratch->counts, 2 * (grid.tiles + 2));
    int32_t* steps = starts;  // while counting: the change of the count from tile to tile
    memset(starts, 0, sizeof(int32_t) * (grid.tiles + 2));

    const vi column = shift_left<16>(to_int(iota()));
    const vf row = iota(), tile = set1(float(TILE)), half = set1(0.5f);
    const vf top = fma(row, tile, set1(float(grid.first_row * TILE) + 0.5f)), width = set1(float(args.view->width - 1));
    int64_t n = 0;
    for (int i = 0; i < count; ++i) {
        const Record& r = slab[i];
        vf half_y = set1(r.half_y), u = set1(r.u), shear = set1(r.shear), lean = set1(r.lean);
        vf low = top - set1(r.v), high = low + set1(TILE - 1);
        vm there = both(le(low, half_y), ge(high, -half_y));
        low = max(low, -half_y), high = min(high, half_y);
        vf at_right = clamp(lean, low, high), at_left = clamp(-lean, low, high);
        vf span_right = sqrt(max(fnma(set1(r.slope) * at_right, at_right, set1(r.half2)), zero()));
        vf span_left = sqrt(max(fnma(set1(r.slope) * at_left, at_left, set1(r.half2)), zero()));
        vf first = max(ceil(fma(shear, at_left, u) - span_left - half), zero());
        vf last = min(floor(fma(shear, at_right, u) + span_right - half), width);
        there = both(there, le(first, last));
        first = select(there, first, zero()), last = select(there, last, zero());
        int32_t firsts[W], lasts[W];
        storei(firsts, shift_right<3>(to_int(first)));
        storei(lasts, shift_right<3>(to_int(last)));
        for (uint32_t rows = to_bits(there) & ((1u << grid.rows) - 1); rows; rows &= rows - 1) {
            int y = __builtin_ctz(rows);
            int base = y * columns, begin = open[base + firsts[y]].next, end = open[base + lasts[y]].previous;
            if (begin > end) continue;
            ++steps[base + begin], --steps[base + end + 1];
            for (int x = begin; x <= end; x += W)
                storei((int32_t*)pairs + n + (x - begin), set1i(int32_t(uint32_t(base + x) << 16 | uint32_t(i))) + column);
            n += end - begin + 1;
        }
    }
    int32_t running = 0, sum = 0;
    int32_t* cursors = starts + grid.tiles + 2;
    for (int t = 0; t < grid.tiles; ++t) {
        running += steps[t];
        starts[t] = cursors[t] = sum;
        sum += running;
    }
    starts[grid.tiles] = sum;
    for (int64_t p = 0; p < n; ++p) sorted[cursors[pairs[p] >> 16]++] = uint16_t(pairs[p]);
    return {sorted, starts};
}

// log2 of alpha at the pixels of one group, before the clamp.
struct Footprint {
    vf dx, across, along;
    INLINE_LAMBDA Footprint(const Record& r, vf x) {
        dx = set1(r.u) - x;
        across = fnma(dx * dx, set1(r.xx), set1(r.log2_opacity));
        along = dx * set1(r.xy);
    }
    INLINE_LAMBDA vf log2_alpha(const Record& r, vf dy) const { return fnma(dy, fma(set1(r.yy), dy, along), across); }
};

// 2^x for x in [-126, 126], relative error 1e-7; anything where x is lower or a NaN.
INLINE vf exp2_quick(vf x) {
#if defined(GS4D_ISA_avx512)
    vf f = _mm512_reduce_ps(x, 0x09);  // x - floor(x)
    vf p = fma(f, set1(1.87757667e-3f), set1(8.98934009e-3f));
    p = fma(f, p, set1(5.58263617e-2f));
    p = fma(f, p, set1(2.40153617e-1f));
    p = fma(f, p, set1(6.93153073e-1f));
    p = fma(f, p, set1(9.99999925e-1f));
    return _mm512_scalef_ps(p, x);
#else
    const vf magic = set1(12582912.0f);  // adding it leaves the nearest integer in the low bits
    vf shifted = x + magic, f = x - (shifted - magic);
    vf p = fma(f, set1(1.3276472e-3f), set1(9.67554133e-3f));
    p = fma(f, p, set1(5.55071327e-2f));
    p = fma(f, p, set1(2.40221197e-1f));
    p = fma(f, p, set1(6.93146967e-1f));
    p = fma(f, p, set1(1.00000007f));
    return as_float(as_int(p) + shift_left<23>(as_int(shifted)));
#endif
}

struct TileState {  // forward
    // What is left of the light, negative once nothing more is blended; what is covered (1 - left would lose the digits of
    // faint pixels); and weighted sums.
    float left[PIXELS], covered[PIXELS], red[PIXELS], green[PIXELS], blue[PIXELS], depth[PIXELS];
    bool open;
};

struct Axes {  // pixel centres
    vf x, y[GROUPS];
};

INLINE Axes axes(int column, int row) {
    Axes a;
    float xs[W], ys[W];
    for (int i = 0; i < W; ++i) xs[i] = float(column * TILE + i % TILE) + 0.5f, ys[i] = float(row * TILE + i / TILE) + 0.5f;
    a.x = load(xs);
    for (int g = 0; g < GROUPS; ++g) a.y[g] = load(ys) + set1(float(g * (W / TILE)));
    return a;
}

// Blends one tile's list; writes the Gaussians that cover a pixel and the pixels they cover, and returns their number.
NOINLINE int64_t blend(const Record* slab, const uint16_t* list, int64_t count, const Axes& at, TileState* state,
                       uint16_t* entries, uint64_t* hits) {
    vf left[GROUPS], covered[GROUPS], red[GROUPS], green[GROUPS], blue[GROUPS], depth[GROUPS];
    for (int g = 0; g < GROUPS; ++g) {
        left[g] = load(state->left + g * W), covered[g] = load(state->covered + g * W), depth[g] = load(state->depth + g * W);
        red[g] = load(state->red + g * W), green[g] = load(state->green + g * W), blue[g] = load(state->blue + g * W);
    }
    int64_t n = 0;
    for (int64_t i = 0; i < count; ++i) {
        if (i + AHEAD < count) __builtin_prefetch(&slab[list[i + AHEAD]]);
        const Record& r = slab[list[i]];
        Footprint f(r, at.x);
        vf v = set1(r.v);
        uint64_t pixels = 0;
#pragma GCC unroll 8
        for (int g = 0; g < GROUPS; ++g) {
            vf q = f.log2_alpha(r, v - at.y[g]);
            vm seen = ge(q, set1(LOG2_ALPHA_MIN));
            vf alpha = min(exp2_quick(q), set1(ALPHA_MAX)), behind = fnma(alpha, left[g], left[g]);
            vm blended = gt_where(seen, behind, set1(T_MIN));
            vf weight = zero_unless(blended, alpha * left[g]);
            red[g] = fma(weight, set1(r.red), red[g]);
            green[g] = fma(weight, set1(r.green), green[g]);
            blue[g] = fma(weight, set1(r.blue), blue[g]);
            depth[g] = fma(weight, set1(r.z), depth[g]);
            covered[g] += weight;
            left[g] = select(blended, behind, negative_where(seen, left[g]));
            pixels |= uint64_t(to_bits(blended)) << (g * W);
        }
        entries[n] = list[i], hits[n] = pixels;
        n += pixels != 0;
        if (i % 8 == 7) {
            uint32_t closed = sign_bits(left[0]);
            for (int g = 1; g < GROUPS; ++g) closed &= sign_bits(left[g]);
            if (closed == (1u << W) - 1) break;
        }
    }
    uint32_t closed = (1u << W) - 1;
    for (int g = 0; g < GROUPS; ++g) {
        store(state->left + g * W, left[g]), store(state->covered + g * W, covered[g]), store(state->depth + g * W, depth[g]);
        store(state->red + g * W, red[g]), store(state->green + g * W, green[g]), store(state->blue + g * W, blue[g]);
        closed &= sign_bits(left[g]);
    }
    state->open = closed != (1u << W) - 1;
    return n;
}

// The part of a tile that lies inside the image.
struct Window {
    int64_t first;  // pixel of the image
    int wide, high;
};

INLINE Window window_of(const BandArgs& args, const Grid& grid, int tile) {
    int x = tile % grid.columns * TILE, y = (grid.first_row + tile / grid.columns) * TILE;
    int wide = args.view->width - x, high = args.view->height - y;
    return {int64_t(y) * args.view->width + x, wide < TILE ? wide : TILE, high < TILE ? high : TILE};
}

NOINLINE void finish(const BandArgs& args, const Grid& grid, TileState* states) {
    const View& view = *args.view;
    float* all_left = room<float>(&args.band->left, int64_t(grid.tiles) * PIXELS);
    for (int t = 0; t < grid.tiles; ++t) {
        TileState& s = states[t];
        for (int p = 0; p < PIXELS; p += W) {
            vf left = abs(load(s.left + p));
            store(all_left + int64_t(t) * PIXELS + p, left);
            store(s.red + p, fma(left, set1(view.background[0]), load(s.red + p)));
            store(s.green + p, fma(left, set1(view.background[1]), load(s.green + p)));
            store(s.blue + p, fma(left, set1(view.background[2]), load(s.blue + p)));
            store(s.depth + p, load(s.depth + p) / max(load(s.covered + p), set1(1e-10f)));
        }
        const Window window = window_of(args, grid, t);
        for (int y = 0; y < window.high; ++y) {
            int64_t at = window.first + int64_t(y) * view.width;
            for (int x = 0, p = y * TILE; x < window.wide; ++x, ++p) {
                float* rgb = args.rgb + 3 * (at + x);
                rgb[0] = s.red[p], rgb[1] = s.green[p], rgb[2] = s.blue[p];
                args.alpha[at + x] = s.covered[p];
                args.depth[at + x] = s.depth[p];
            }
        }
    }
}

void forward(const BandArgs& args) {
    const Grid grid = grid_of(args);
    Band* band = args.band;
    choose(args, grid);
    sort(args);
    TileState* states = room<TileState>(&args.scratch->state, grid.tiles);
    Open* open = room<Open>(&args.scratch->open, grid.tiles);
    for (int t = 0; t < grid.tiles; ++t) {
        memset(&states[t], 0, sizeof(TileState));
        const Window window = window_of(args, grid, t);
        for (int p = 0; p < PIXELS; ++p) states[t].left[p] = p % TILE < window.wide && p / TILE < window.high ? 1 : -1;
        states[t].open = true;
        open[t] = {int16_t(t % grid.columns), int16_t(t % grid.columns)};
    }
    band->slabs = 0;
    int64_t kept = 0, capacity = 0;
    bool visible = true;
    for (int64_t begin = 0; begin < band->count && visible; begin += SLAB) {
        int count = int(band->count - begin < SLAB ? band->count - begin : SLAB);
        const Record* slab = copy_slab(args, begin, begin + count);
        Lists lists = bin(args, grid, slab, count, open);
        int64_t before = band->slabs * grid.tiles;
        int64_t* ends = room<int64_t>(&band->ends, before + grid.tiles, before) + before;
        for (int t = 0; t < grid.tiles; ++t) {
            int64_t length = lists.starts[t + 1] - lists.starts[t];
            if (length) {
                if (kept + length + 1 > capacity) {
                    capacity = 2 * (kept + length + 1);
                    room<uint16_t>(&band->entries, capacity, kept);
                    room<uint64_t>(&band->hits, capacity, kept);
                }
                Axes at = axes(t % grid.columns, grid.first_row + t / grid.columns);
                int64_t n = blend(slab, lists.sorted + lists.starts[t], length, at, &states[t],
                                  (uint16_t*)band->entries.data + kept, (uint64_t*)band->hits.data + kept);
                if (args.keep) kept += n;
            }
            ends[t] = kept;
        }
        ++band->slabs;
        visible = false;
        for (int y = 0; y < grid.rows; ++y) {
            Open* row = open + y * grid.columns;
            const TileState* state = states + y * grid.columns;
            int nearest = -1;
            for (int x = 0; x < grid.columns; ++x) row[x].previous = int16_t(nearest = state[x].open ? x : nearest);
            nearest = grid.columns;
            for (int x = grid.columns - 1; x >= 0; --x) row[x].next = int16_t(nearest = state[x].open ? x : nearest);
            visible |= nearest < grid.columns;
        }
    }
    finish(args, grid, states);
}

struct GradState {  // backward: transmittance, what the Gaussians behind add to the loss, and the gradients of the outputs
    float left[PIXELS], behind[PIXELS], red[PIXELS], green[PIXELS], blue[PIXELS], alpha[PIXELS], depth[PIXELS], mean_z[PIXELS];
};

NOINLINE void begin_backward(const BandArgs& args, const Grid& grid, GradState* states) {
    const View& view = *args.view;
    const float* left = (const float*)args.band->left.data;
    for (int t = 0; t < grid.tiles; ++t) {
        GradState& s = states[t];
        const Window window = window_of(args, grid, t);
        memset(&s, 0, sizeof s);
        for (int y = 0; y < window.high; ++y) {
            int64_t at = window.first + int64_t(y) * view.width;
            for (int x = 0, p = y * TILE; x < window.wide; ++x, ++p) {
                if (args.grad_rgb) {
                    const float* grad = args.grad_rgb + 3 * (at + x);
                    s.red[p] = grad[0], s.green[p] = grad[1], s.blue[p] = grad[2];
                }
                if (args.grad_alpha) s.alpha[p] = args.grad_alpha[at + x];
                if (args.grad_depth) {
                    float alpha = args.alpha[at + x];
                    s.depth[p] = alpha > 1e-10f ? args.grad_depth[at + x] / alpha : 0;
                    s.mean_z[p] = args.depth[at + x];
                }
            }
        }
        for (int p = 0; p < PIXELS; p += W) {
            vf behind = load(s.red + p) * set1(view.background[0]);
            behind = fma(load(s.green + p), set1(view.background[1]), behind);
            behind = fma(load(s.blue + p), set1(view.background[2]), behind);
            store(s.alpha + p, load(s.alpha + p) - behind);
            store(s.left + p, load(left + int64_t(t) * PIXELS + p));
        }
    }
}

template <bool DEPTH>
NOINLINE void blend_backward(const Record* slab, const uint16_t* entries, const uint64_t* hits, int64_t count, const Axes& at,
                             GradState* state, float* sums) {
    vf left[GROUPS], behind[GROUPS];
    for (int g = 0; g < GROUPS; ++g) left[g] = load(state->left + g * W), behind[g] = load(state->behind + g * W);
    for (int64_t i = count - 1; i >= 0; --i) {
        if (i >= AHEAD) {
            __builtin_prefetch(&slab[entries[i - AHEAD]]);
            __builtin_prefetch(sums + SUMS * entries[i - AHEAD]);
        }
        const Record& r = slab[entries[i]];
        Footprint f(r, at.x);
        vf v = set1(r.v);
        vf h = zero(), hy = zero(), hyy = zero(), red = zero(), green = zero(), blue = zero(), depth = zero();
#pragma GCC unroll 8
        for (int g = 0; g < GROUPS; ++g) {
            uint32_t bits = uint32_t(hits[i] >> (g * W)) & ((1u << W) - 1);
            if (!bits) continue;
            vm hit = from_bits(bits);
            vf dy = v - at.y[g], raw = exp2_quick(f.log2_alpha(r, dy));
            vf alpha = zero_unless(hit, min(raw, set1(ALPHA_MAX)));
            vf inverse = rcp(set1(1) - alpha);
            left[g] = select(hit, left[g] * inverse, left[g]);
            vf weight = alpha * left[g];
            vf gred = load(state->red + g * W), ggreen = load(state->green + g * W), gblue = load(state->blue + g * W);
            vf value = fma(gred, set1(r.red), fma(ggreen, set1(r.green), fma(gblue, set1(r.blue), load(state->alpha + g * W))));
            red = fma(weight, gred, red), green = fma(weight, ggreen, green), blue = fma(weight, gblue, blue);
            if (DEPTH) {
                vf gdepth = load(state->depth + g * W);
                value = fma(gdepth, set1(r.z) - load(state->mean_z + g * W), value);  // depth is the mean of z
                depth = fma(weight, gdepth, depth);
            }
            vf galpha = fnma(behind[g], inverse, left[g] * value);
            behind[g] = fma(weight, value, behind[g]);
            vf slope = zero_unless(le(raw, set1(ALPHA_MAX)), alpha * galpha), moment = slope * dy;  // dL / d ln(alpha)
            h += slope, hy += moment, hyy = fma(moment, dy, hyy);
        }
        vf hx = h * f.dx;
        const vf all[10] = {h, hx, hx * f.dx, hy, hy * f.dx, hyy, red, green, blue, depth};
        add_sums(sums + SUMS * entries[i], all);
    }
    for (int g = 0; g < GROUPS; ++g) store(state->left + g * W, left[g]), store(state->behind + g * W, behind[g]);
}

void backward(const BandArgs& args) {
    const Grid grid = grid_of(args);
    Band* band = args.band;
    GradState* states = room<GradState>(&args.scratch->state, grid.tiles);
    begin_backward(args, grid, states);
    float* sums = room<float>(&args.scratch->sums, int64_t(SLAB) * SUMS);
    float* all = room<float>(&band->sums, band->count * SUMS);
    const int64_t* ends = (const int64_t*)band->ends.data;
    const int32_t* order = (const int32_t*)band->order.data;
    for (int64_t s = band->slabs - 1; s >= 0; --s) {
        int64_t first = s * SLAB, last = first + SLAB < band->count ? first + SLAB : band->count;
        const Record* slab = copy_slab(args, first, last);
        memset(sums, 0, sizeof(float) * SUMS * (last - first));
        for (int t = 0; t < grid.tiles; ++t) {
            int64_t tile = s * grid.tiles + t, begin = tile ? ends[tile - 1] : 0, count = ends[tile] - begin;
            if (!count) continue;
            Axes at = axes(t % grid.columns, grid.first_row + t / grid.columns);
            const uint16_t* entries = (const uint16_t*)band->entries.data + begin;
            const uint64_t* hits = (const uint64_t*)band->hits.data + begin;
            if (args.grad_depth) {
                blend_backward<true>(slab, entries, hits, count, at, &states[t], sums);
            } else {
                blend_backward<false>(slab, entries, hits, count, at, &states[t], sums);
            }
        }
        for (int64_t i = first; i < last; ++i) {
            float* to = all + SUMS * order[i];
            const float* from = sums + SUMS * (i - first);
            for (int f = 0; f < SUMS; f += W) store(to + f, load(from + f));
        }
    }
    for (int64_t i = band->slabs * SLAB; i < band->count; ++i) memset(all + SUMS * order[i], 0, sizeof(float) * SUMS);
}

}  // namespace

extern const RasterKernels raster_kernels;
const RasterKernels raster_kernels = {forward, backward};

}  // namespace GS4D_ISA
}  // namespace gs4d
