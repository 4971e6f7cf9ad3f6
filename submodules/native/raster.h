// What the rasterizer's host code and its kernels share: plain structs.
//
// An image is cut into tiles of 8x8 pixels, and into bands of 8 rows of tiles. One band of one view is the unit of work:
// how much there is of it depends on the picture only, never on the number of threads, and everything that is summed is
// summed inside one unit or over units in their order. So results do not depend on the number of threads.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "dispatch.h"

namespace gs4d {

constexpr int TILE = 8;         // pixels; a tile's 64 hits on one Gaussian fit one word
constexpr int BAND_ROWS = 8;    // rows of tiles in a band
constexpr int SLAB = 2048;      // Gaussians of a band that are binned and blended together, nearest first
constexpr int BLOCK = 256;      // Gaussians projected together
constexpr int SUMS = 16;        // floats per Gaussian in which the backward pass sums its moments

// Memory that grows and is kept between calls, because fresh pages cost more than the work on them.
struct Buffer {
    void* data;
    size_t bytes;
};
void* reserve(Buffer* buffer, size_t bytes, size_t keep);  // at least `bytes`, of which the first `keep` hold their values

struct View {
    float rotation[9], translation[3], center[3];  // world to camera, and the camera's place in the world
    float fx, fy, cx, cy;
    float low_x, high_x, low_y, high_y;  // bounds of x / z and y / z in the projection's Jacobian
    float background[3];
    int width, height, tiles_x, tiles_y, bands;
};

// Parameters of the Gaussians of one view, or places for their gradients.
template <class Float>
struct Fields {
    Float *means, *quats, *log_scales, *logit_opacities, *sh;
    Float* screen_offsets;  // may be null
};

// A projected Gaussian. It covers a pixel at (x, y) = (u, v) + (ex, ey) with alpha
// 2^(log2_opacity - xx ex^2 - xy ex ey - yy ey^2); the last fields bound the ellipse where that reaches ALPHA_MIN: it has
// half height half_y, its rightmost point is at ey = lean, and at height ey it spans shear ey +- sqrt(half2 - slope ey^2).
struct alignas(64) Record {
    float u, v, xx, xy, yy, log2_opacity, red, green, blue, z;
    float half_y, lean, shear, half2, slope, unused;
};

struct Rows {
    uint16_t first, last;  // rows of tiles it touches; first > last where it is not drawn
};

struct ProjectArgs {
    const View* view;
    Fields<const float> in;
    Record* records;
    Rows* rows;
    int32_t* radii;
};

// One band of one view, kept from the forward to the backward pass.
struct Band {
    int64_t count;    // Gaussians that touch it
    int64_t slabs;    // slabs blended before every pixel was opaque
    Buffer ids;       // int32: its Gaussians, ascending
    Buffer starts;    // int64 per block of BLOCK Gaussians, and the end: where the block's are in ids
    Buffer order;     // int32: positions in ids, nearest first
    Buffer ends;      // int64 per slab and tile: end in the two below of the pairs of this tile
    Buffer entries;   // uint16: a Gaussian in the slab that covers some pixel of the tile
    Buffer hits;      // uint64: which pixels
    Buffer left;      // float per pixel, tile by tile: transmittance behind the last Gaussian
    Buffer sums;      // float[SUMS] per position in ids: the backward pass's moments
};

// Memory of one thread, reused from band to band.
struct Scratch {
    Buffer keys, slab, pairs, sorted, counts, open, state, sums;
};

struct BandArgs {
    const View* view;
    const Record* records;
    const Rows* rows;
    int64_t n;
    int index;  // of the band in its view
    Band* band;
    Scratch* scratch;
    float *rgb, *alpha, *depth;                          // of the view: written forward; the last two are read backward
    const float *grad_rgb, *grad_alpha, *grad_depth;     // of the view, each may be null
    bool keep;                                           // a backward pass will follow
};

struct ProjectBackwardArgs {
    const View* view;
    Fields<const float> in;
    Fields<float> out;  // any may be null
    Fields<const bool> add;  // whether to add to what is there: a view before this one has written
    const Record* records;
    const Rows* rows;
    const Band* bands;
};

// One function per degree of the spherical harmonics, for Gaussians [begin, end): at most BLOCK, begin a multiple of it.
struct ProjectKernels {
    void (*forward[4])(const ProjectArgs&, int64_t begin, int64_t end);
    void (*backward[4])(const ProjectBackwardArgs&, int64_t begin, int64_t end);
};

struct RasterKernels {
    void (*forward)(const BandArgs&);
    void (*backward)(const BandArgs&);
};

GS4D_DECLARE_KERNELS(ProjectKernels, project_kernels)
GS4D_DECLARE_KERNELS(RasterKernels, raster_kernels)

}  // namespace gs4d
