// The deformation field for Python: shapes are checked here, the arithmetic is in field_kernels.cpp.
#include <algorithm>
#include <memory>
#include <stdexcept>
#include <string>

#include "dispatch.h"
#include "field_kernels.h"
#include "module.h"
#include "pool.h"

namespace gs4d {

GS4D_DECLARE_KERNELS(FieldKernels, field_kernels)

namespace {

constexpr int64_t MAX_UNITS = 32;  // enough for the threads of a laptop; each costs a private copy of the small gradients

// Memory that is kept from call to call, because fresh pages cost more than the kernels that fill them.
class Scratch {
   public:
    float* at_least(int64_t floats) {
        if (floats > size_) {
            raw_.reset(new float[size_t(floats) + 16]);
            size_ = floats;
        }
        uintptr_t address = reinterpret_cast<uintptr_t>(raw_.get());
        return reinterpret_cast<float*>((address + 63) & ~uintptr_t(63));
    }

   private:
    std::unique_ptr<float[]> raw_;
    int64_t size_ = 0;
};

using Matrix = ConstArray<nb::ndim<2>>;
using Vector = ConstArray<nb::ndim<1>>;
using Planes = ConstArray<nb::ndim<4>>;

void require(bool holds, const char* what) {
    if (!holds) throw std::invalid_argument(std::string("deformation field: ") + what);
}

Field describe(const Matrix& unit, const std::vector<Planes>& space, const std::vector<Planes>& rows, const Matrix& w1,
               const Vector& b1, const Matrix& w2, const Vector& b2, int outputs) {
    Field f{};
    require(!space.empty() && space.size() <= FIELD_MAX_LEVELS && rows.size() == space.size(), "wanted 1 to 8 levels");
    require(unit.shape(1) == 3, "points must be (n, 3)");
    f.points = int64_t(unit.shape(0)), f.unit = unit.data();
    f.levels = int(space.size()), f.channels = int(space[0].shape(3)), f.times = int64_t(rows[0].shape(1));
    f.hidden = int(w1.shape(1)), f.outputs = outputs;
    require(f.channels > 0 && f.channels % FIELD_LANES == 0, "channels must be a positive multiple of 16");
    require(f.hidden > 0 && f.hidden % FIELD_LANES == 0, "hidden units must be a positive multiple of 16");
    require(outputs > 0 && outputs <= FIELD_OUTPUTS, "wanted 1 to 16 outputs");
    f.partial_size = 0;
    for (int level = 0; level < f.levels; ++level) {
        const Planes &s = space[level], &r = rows[level];
        int64_t size = int64_t(s.shape(1));
        require(size >= 2 && s.shape(0) == 3 && int64_t(s.shape(2)) == size && int(s.shape(3)) == f.channels,
                "spatial planes must be (3, r, r, channels) with r at least 2");
        require(r.shape(0) == 3 && int64_t(r.shape(1)) == f.times && int64_t(r.shape(2)) == size &&
                    int(r.shape(3)) == f.channels,
                "time rows must be (3, times, r, channels)");
        f.space[level] = s.data(), f.rows[level] = r.data(), f.resolution[level] = size;
        f.partial_size += 3 * f.times * size * f.channels;
    }
    int64_t features = int64_t(f.levels) * f.channels;
    require(int64_t(w1.shape(0)) == features && int(b1.shape(0)) == f.hidden && int(b2.shape(0)) == FIELD_OUTPUTS,
            "the hidden layer does not fit the planes");
    f.partial_size += (features + 1 + FIELD_OUTPUTS) * f.hidden + FIELD_OUTPUTS;
    f.w1 = w1.data(), f.b1 = b1.data(), f.w2 = w2.data(), f.b2 = b2.data();
    int64_t blocks = (f.points + FIELD_BLOCK - 1) / FIELD_BLOCK;
    f.unit_points = (blocks + MAX_UNITS - 1) / MAX_UNITS * FIELD_BLOCK;
    f.units = f.points ? (f.points + f.unit_points - 1) / f.unit_points : 0;
    return f;
}

float* thread_scratch(int64_t floats) {
    static thread_local Scratch scratch;
    return scratch.at_least(floats);
}

void forward(const Matrix& unit, const std::vector<Planes>& space, const std::vector<Planes>& rows, const Matrix& w1,
             const Vector& b1, const Matrix& w2, const Vector& b2, const Array<nb::ndim<3>>& deltas) {
    Field f = describe(unit, space, rows, w1, b1, w2, b2, int(deltas.shape(2)));
    require(int64_t(deltas.shape(0)) == f.times && int64_t(deltas.shape(1)) == f.points, "deltas must be (t, n, d)");
    require(int(w2.shape(0)) == f.hidden && w2.shape(1) == FIELD_OUTPUTS, "the output layer must be (h, 16)");
    f.deltas = deltas.data();
    const FieldKernels& k = GS4D_KERNELS(field_kernels);
    nb::gil_scoped_release release;
    parallel_for(f.units, [&](int64_t unit) { k.forward(f, unit, thread_scratch(k.scratch_size(f))); });
}

void backward(const Matrix& unit, const std::vector<Planes>& space, const std::vector<Planes>& rows, const Matrix& w1,
              const Matrix& w1_transposed, const Vector& b1, const Matrix& w2_transposed, const Vector& b2,
              const ConstArray<nb::ndim<3>>& grad_deltas, const Array<nb::ndim<2>>& grad_unit,
              const std::vector<Array<nb::ndim<4>>>& grad_space, const Array<nb::ndim<1>>& grad_rest) {
    Field f = describe(unit, space, rows, w1, b1, w2_transposed, b2, int(grad_deltas.shape(2)));
    require(int64_t(grad_deltas.shape(0)) == f.times && int64_t(grad_deltas.shape(1)) == f.points,
            "the gradient of the deltas must be (t, n, d)");
    require(int(w1_transposed.shape(0)) == f.hidden && w1_transposed.shape(1) == w1.shape(0) &&
                w2_transposed.shape(0) == FIELD_OUTPUTS && int(w2_transposed.shape(1)) == f.hidden,
            "the transposed layers must be (h, f) and (16, h)");
    require(int64_t(grad_unit.shape(0)) == f.points && grad_unit.shape(1) == 3 && grad_space.size() == space.size() &&
                int64_t(grad_rest.shape(0)) == f.partial_size,
            "a gradient has the wrong shape");
    for (int level = 0; level < f.levels; ++level) {
        require(grad_space[level].size() == space[level].size(), "a gradient has the wrong shape");
        f.grad_space[level] = grad_space[level].data();
    }
    f.w1_transposed = w1_transposed.data(), f.w2_transposed = w2_transposed.data();
    f.grad_deltas = grad_deltas.data(), f.grad_unit = grad_unit.data(), f.grad_rest = grad_rest.data();
    const FieldKernels& k = GS4D_KERNELS(field_kernels);
    nb::gil_scoped_release release;
    static thread_local Scratch partials, features;
    f.partials = partials.at_least(f.units * f.partial_size);
    f.grad_features = features.at_least(3 * f.levels * f.points * f.channels);
    parallel_for(f.units, [&](int64_t unit) { k.backward(f, unit, thread_scratch(k.scratch_size(f))); });
    constexpr int64_t SLICE = 8192;
    int64_t planes = 3 * f.levels, slices = (f.partial_size + SLICE - 1) / SLICE;
    parallel_for(planes + slices, [&](int64_t task) {
        if (task < planes) return k.scatter(f, task);
        int64_t begin = (task - planes) * SLICE;
        k.reduce(f, begin, std::min(begin + SLICE, f.partial_size));
    });
}

}  // namespace

void bind_field(nb::module_& m) {
    m.def("field_forward", forward);
    m.def("field_backward", backward);
}

}  // namespace gs4d
