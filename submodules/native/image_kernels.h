// What the host hands to the picture-loss kernel: plain structs only, because kernel objects share nothing else.
#pragma once

#include <stdint.h>

namespace gs4d {

constexpr int IMAGE_RADIUS = 5;  // the window is 11 pixels wide
constexpr int IMAGE_BAND = 64;   // rows of one unit of work: it repeats the statistics of 5 rows above and below

// b pictures of h x w pixels and c channels, row-major and channel-last.
struct ImageLoss {
    int64_t b, h, w, c;
    const float* prediction;
    const float* target;
    const float* weights;  // (b) or (b, h, w), null means one
    bool weights_per_pixel;
    float l1_scale, ssim_scale;     // factors of sum |x - y| and of sum (1 - SSIM)
    float taps[IMAGE_RADIUS + 1];   // of the window, from its centre outwards
    float c1, c2;
    float* grad;      // as prediction; null when not wanted
    double* partial;  // loss of each unit
    int64_t bands;    // per picture; units = b * bands
};

struct ImageKernels {
    int64_t (*scratch_size)(const ImageLoss&);  // floats
    void (*loss)(const ImageLoss&, int64_t unit, float* scratch);
};

}  // namespace gs4d
