// What the host hands to the deformation-field kernels: plain structs only, because kernel objects share nothing else.
#pragma once

#include <stdint.h>

namespace gs4d {

constexpr int FIELD_MAX_LEVELS = 8;
constexpr int FIELD_BLOCK = 32;    // points that share one pass through the decoder; their activations stay in L1
constexpr int FIELD_OUTPUTS = 16;  // columns of deltas at most; the decoder is padded to it
constexpr int FIELD_LANES = 16;    // channels and hidden units are multiples of this on every instruction set

// n points, t times, f = levels * channels features, h hidden units, d outputs. Everything is row-major.
struct Field {
    int64_t points, times;
    int64_t unit_points;  // points of one unit of work, a multiple of FIELD_BLOCK that depends on n only
    int levels, channels, hidden, outputs;
    int64_t resolution[FIELD_MAX_LEVELS];
    const float* unit;                     // (n, 3), the box is [0, 1]^3
    const float* space[FIELD_MAX_LEVELS];  // planes xy, xz, yz: (3, r, r, c)
    const float* rows[FIELD_MAX_LEVELS];   // time planes xt, yt, zt at the times: (3, t, r, c)
    const float* w1;                       // (f, h)
    const float* w1_transposed;            // (h, f)
    const float* b1;                       // (h)
    const float* w2;                       // (h, 16), columns from d on are zero
    const float* w2_transposed;            // (16, h)
    const float* b2;                       // (16)
    float* deltas;                         // (t, n, d): forward writes
    const float* grad_deltas;              // (t, n, d)
    float* grad_unit;                      // (n, 3)
    float* grad_features;                  // (levels * 3, n, c): gradient of what each spatial plane gave each point
    float* grad_space[FIELD_MAX_LEVELS];
    float* partials;   // (units, partial_size): each unit's gradients of rows (by level), w1, b1, w2_transposed, b2
    float* grad_rest;  // (partial_size): their sum
    int64_t units, partial_size;
};

struct FieldKernels {
    int64_t (*scratch_size)(const Field&);  // floats that forward and backward want
    void (*forward)(const Field&, int64_t unit, float* scratch);
    void (*backward)(const Field&, int64_t unit, float* scratch);  // all but grad_space and grad_rest
    void (*scatter)(const Field&, int64_t plane);                  // grad_space of plane level * 3 + k
    void (*reduce)(const Field&, int64_t begin, int64_t end);      // grad_rest[begin, end)
};

}  // namespace gs4d
