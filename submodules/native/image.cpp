// The picture loss for Python: shapes are checked here, the arithmetic is in image_kernels.cpp.
#include <cmath>
#include <memory>
#include <stdexcept>

#include "dispatch.h"
#include "image_kernels.h"
#include "module.h"
#include "pool.h"

namespace gs4d {

GS4D_DECLARE_KERNELS(ImageKernels, image_kernels)

namespace {

using Images = ConstArray<nb::ndim<4>>;

double photometric(const Images& prediction, const Images& target, const std::optional<ConstArray<>>& weights,
                   double ssim_weight, double sigma, double c1, double c2, const std::optional<Array<nb::ndim<4>>>& grad) {
    ImageLoss f{};
    f.b = int64_t(prediction.shape(0)), f.h = int64_t(prediction.shape(1)), f.w = int64_t(prediction.shape(2));
    f.c = int64_t(prediction.shape(3));
    bool fits = true;
    for (int axis = 0; axis < 4; ++axis)
        fits = fits && target.shape(axis) == prediction.shape(axis) && (!grad || grad->shape(axis) == prediction.shape(axis));
    if (weights) {
        f.weights = weights->data(), f.weights_per_pixel = weights->ndim() == 3;
        fits = fits && (weights->ndim() == 1 || weights->ndim() == 3) && weights->shape(0) == prediction.shape(0);
        if (f.weights_per_pixel)
            fits = fits && weights->shape(1) == prediction.shape(1) && weights->shape(2) == prediction.shape(2);
    }
    if (!fits) throw std::invalid_argument("photometric: target, weights or gradient do not have the prediction's shape");
    f.prediction = prediction.data(), f.target = target.data(), f.grad = grad ? grad->data() : nullptr;
    double count = double(prediction.size());
    f.l1_scale = float((1 - ssim_weight) / count), f.ssim_scale = float(ssim_weight / count);
    double taps[IMAGE_RADIUS + 1], sum = 0;
    for (int k = 0; k <= IMAGE_RADIUS; ++k) {
        taps[k] = std::exp(-k * k / (2 * sigma * sigma));
        sum += (k ? 2 : 1) * taps[k];
    }
    for (int k = 0; k <= IMAGE_RADIUS; ++k) f.taps[k] = float(taps[k] / sum);
    f.c1 = float(c1), f.c2 = float(c2);
    f.bands = (f.h + IMAGE_BAND - 1) / IMAGE_BAND;
    std::vector<double> partial(size_t(f.b * f.bands));
    f.partial = partial.data();
    const ImageKernels& k = GS4D_KERNELS(image_kernels);
    nb::gil_scoped_release release;
    parallel_for(f.b * f.bands, [&](int64_t unit) {
        static thread_local std::vector<float> scratch;  // kept, because fresh pages cost more than the loss
        if (int64_t(scratch.size()) < k.scratch_size(f)) scratch.resize(size_t(k.scratch_size(f)));
        k.loss(f, unit, scratch.data());
    });
    double total = 0;
    for (double part : partial) total += part;  // in the order of units: the same bits for any number of threads
    return total;
}

}  // namespace

void bind_image(nb::module_& m) {
    m.def("photometric", photometric, nb::arg("prediction"), nb::arg("target"), nb::arg("weights").none(),
          nb::arg("ssim_weight"), nb::arg("sigma"), nb::arg("c1"), nb::arg("c2"), nb::arg("grad").none());
}

}  // namespace gs4d
