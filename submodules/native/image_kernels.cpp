// L1 and SSIM of a picture and their gradient in one pass over a band of rows; gs4d/losses.py is the specification.
//
// SSIM needs windowed means of x, y, x^2 + y^2 and x y (it uses both variances only as a sum). Its gradient is the same
// window over its derivatives by three of those means: dS/dx = G * d1 + 2 x (G * d2) + y (G * d3). The window is
// separable, and only eleven rows of derivatives are alive at a time, so everything stays in the cache.
#include "image_kernels.h"

#include "simd.h"

namespace gs4d {
namespace GS4D_ISA {

constexpr int TAPS = 2 * IMAGE_RADIUS + 1, MEANS = 4, DERIVATIVES = 3;

struct Rows {
    int64_t width;   // floats of a picture row
    int64_t padded;  // and of a row with the window's reach on both sides, rounded up to whole vectors
    int64_t margin;
    float* blurred;  // (MEANS, padded): windowed along the column so far; zero outside the picture
    float* ring;     // (TAPS, DERIVATIVES, padded): derivatives of the last rows; zero outside the picture
    float* weights;  // (padded)
};

static Rows carve(const ImageLoss& f, float* scratch) {
    Rows r;
    r.width = f.w * f.c, r.margin = IMAGE_RADIUS * f.c;
    r.padded = (r.width + 2 * r.margin + 2 * W - 1) / W * W;
    r.blurred = scratch, r.ring = r.blurred + MEANS * r.padded, r.weights = r.ring + TAPS * DERIVATIVES * r.padded;
    return r;
}

static int64_t scratch_size(const ImageLoss& f) { return (MEANS + TAPS * DERIVATIVES + 1) * carve(f, nullptr).padded; }

INLINE vf load_upto(const float* p, int64_t left) { return left >= W ? load(p) : load_first(p, int(left)); }
INLINE void store_upto(float* p, int64_t left, vf a) {
    if (left >= W) store(p, a);
    else store_first(p, int(left), a);
}

// The window along a row, around p.
INLINE vf window(const float* p, int64_t step, const vf* taps) {
    vf sum = taps[0] * load(p);
    for (int k = 1; k <= IMAGE_RADIUS; ++k) sum = fma(taps[k], load(p - k * step) + load(p + k * step), sum);
    return sum;
}

static void load_weights(const ImageLoss& f, int64_t image, int64_t row, Rows& r) {
    const float* per_pixel = f.weights_per_pixel ? f.weights + (image * f.h + row) * f.w : nullptr;
    float constant = f.weights ? f.weights[f.weights_per_pixel ? 0 : image] : 1.0f;
    for (int64_t x = 0; x < f.w; ++x)
        for (int64_t c = 0; c < f.c; ++c) r.weights[x * f.c + c] = per_pixel ? per_pixel[x] : constant;
}

// The column part of the four means of one row.
static void blur_columns(const ImageLoss& f, int64_t image, int64_t row, const vf* taps, Rows& r) {
    int64_t first = row < IMAGE_RADIUS ? 0 : row - IMAGE_RADIUS;
    int64_t last = row + IMAGE_RADIUS < f.h ? row + IMAGE_RADIUS : f.h - 1;
    float* out = r.blurred + r.margin;
    for (int64_t i = 0; i < r.width; i += W) {
        vf sums[MEANS] = {zero(), zero(), zero(), zero()};
        int64_t at = (image * f.h + first) * r.width + i;
        for (int64_t y = first; y <= last; ++y, at += r.width) {
            vf tap = taps[y < row ? row - y : y - row];
            vf a = load_upto(f.prediction + at, r.width - i), b = load_upto(f.target + at, r.width - i);
            vf weighted = tap * a;
            sums[0] = sums[0] + weighted;
            sums[1] = fma(tap, b, sums[1]);
            sums[2] = fma(tap, fma(b, b, a * a), sums[2]);
            sums[3] = fma(weighted, b, sums[3]);
        }
        for (int k = 0; k < MEANS; ++k) store_upto(out + k * r.padded + i, r.width - i, sums[k]);
    }
}

// Finishes the means of one row; returns the sum of weighted 1 - SSIM and leaves the derivatives in ``out``.
static float similarity(const ImageLoss& f, const vf* taps, const Rows& r, float* out) {
    vf total = zero(), c1 = set1(f.c1), c2 = set1(f.c2), two = set1(2);
    const float* in = r.blurred + r.margin;
    for (int64_t i = 0; i < r.width; i += W) {
        int64_t left = r.width - i;
        vf mean[MEANS];
        for (int k = 0; k < MEANS; ++k) mean[k] = window(in + k * r.padded + i, f.c, taps);
        vf x = mean[0], y = mean[1], xy = x * y, squares = fma(y, y, x * x);
        vf a1 = fma(two, xy, c1), a2 = fma(two, mean[3] - xy, c2), b1 = squares + c1, b2 = mean[2] - squares + c2;
        vf inverse = set1(1) / (b1 * b2), s = a1 * a2 * inverse, weight = load_upto(r.weights + i, left);
        // Lanes beyond the picture's edge hold a window that straddles it: their weight is zero.
        total = fma(weight, set1(1) - s, total);
        vf scale = weight * set1(-2 * f.ssim_scale);  // the factor 2 of every derivative, and minus because of 1 - S
        vf by_xy = a1 * inverse;
        vf by_squares = s * b1 * inverse * set1(-0.5f);
        vf by_x = fma(y, fma(a2, inverse, -by_xy), x * fma(s * b2, -inverse, -two * by_squares));
        store_upto(out + i, left, scale * by_x);
        store_upto(out + r.padded + i, left, scale * by_squares);
        store_upto(out + 2 * r.padded + i, left, scale * by_xy);
    }
    return sum(total);
}

// The L1 part of one row and, when wanted, the whole gradient; returns the sum of weighted |x - y|.
static float finish(const ImageLoss& f, int64_t image, int64_t row, const vf* taps, Rows& r) {
    int64_t at = (image * f.h + row) * r.width;
    vf total = zero(), l1_scale = set1(f.l1_scale);
    float* blurred = r.blurred + r.margin;
    if (f.grad)
        for (int64_t i = 0; i < r.width; i += W)
            for (int k = 0; k < DERIVATIVES; ++k) {
                vf sum = zero();
                for (int64_t y = row - IMAGE_RADIUS; y <= row + IMAGE_RADIUS; ++y) {
                    const float* line = r.ring + ((y + TAPS) % TAPS * DERIVATIVES + k) * r.padded;
                    sum = fma(taps[y < row ? row - y : y - row], load(line + i), sum);
                }
                store_upto(blurred + k * r.padded + i, r.width - i, sum);
            }
    for (int64_t i = 0; i < r.width; i += W) {
        int64_t left = r.width - i;
        vf x = load_upto(f.prediction + at + i, left), y = load_upto(f.target + at + i, left), difference = x - y;
        vf weight = load_upto(r.weights + i, left), scaled = weight * l1_scale;
        total = fma(weight, abs(difference), total);
        if (!f.grad) continue;
        vf grad = zero_unless(gt(difference, zero()), scaled) - zero_unless(lt(difference, zero()), scaled);
        grad = grad + window(blurred + i, f.c, taps);
        grad = fma(x + x, window(blurred + r.padded + i, f.c, taps), grad);
        grad = fma(y, window(blurred + 2 * r.padded + i, f.c, taps), grad);
        store_upto(f.grad + at + i, left, grad);
    }
    return sum(total);
}

static void loss(const ImageLoss& f, int64_t unit, float* scratch) {
    Rows r = carve(f, scratch);
    memset(scratch, 0, scratch_size(f) * sizeof(float));
    vf taps[IMAGE_RADIUS + 1];
    for (int k = 0; k <= IMAGE_RADIUS; ++k) taps[k] = set1(f.taps[k]);
    int64_t image = unit / f.bands, begin = unit % f.bands * IMAGE_BAND;
    int64_t end = begin + IMAGE_BAND < f.h ? begin + IMAGE_BAND : f.h, reach = f.grad ? IMAGE_RADIUS : 0;
    double total = 0;
    for (int64_t row = begin - reach; row < end + reach; ++row) {
        float* derivatives = r.ring + (row + TAPS) % TAPS * DERIVATIVES * r.padded;
        if (row >= 0 && row < f.h) {
            load_weights(f, image, row, r);
            blur_columns(f, image, row, taps, r);
            float lost = similarity(f, taps, r, derivatives);
            if (row >= begin && row < end) total += double(f.ssim_scale) * lost;
        } else {
            memset(derivatives, 0, DERIVATIVES * r.padded * sizeof(float));
        }
        if (row - reach >= begin) {
            load_weights(f, image, row - reach, r);
            total += double(f.l1_scale) * finish(f, image, row - reach, taps, r);
        }
    }
    f.partial[unit] = total;
}

extern const ImageKernels image_kernels;
const ImageKernels image_kernels = {scratch_size, loss};

}  // namespace GS4D_ISA
}  // namespace gs4d
