// The rasterizer's host side: checks arrays, cuts the work into blocks and bands, and keeps what the backward pass needs.
#include "raster.h"

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include "constants.h"
#include "module.h"
#include "pool.h"
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace gs4d {

void* reserve(Buffer* buffer, size_t bytes, size_t keep) {
    if (bytes <= buffer->bytes) return buffer->data;
    size_t wanted = (bytes + bytes / 4 + 4095) / 4096 * 4096;
    void* data = std::aligned_alloc(64, wanted);
    if (!data) throw std::bad_alloc();
    if (keep) std::memcpy(data, buffer->data, keep);
    std::free(buffer->data);
    *buffer = {data, wanted};
    return data;
}

namespace {

struct Owned : Buffer {
    Owned() : Buffer{nullptr, 0} {}
    Owned(const Owned&) = delete;
    ~Owned() { std::free(data); }
    template <class T>
    T* room(int64_t count) {
        return static_cast<T*>(reserve(this, size_t(count) * sizeof(T), 0));
    }
};

struct OwnedBand : Band {
    OwnedBand() : Band{} {}
    OwnedBand(const OwnedBand&) = delete;
    ~OwnedBand() {
        for (Buffer* b : {&ids, &starts, &order, &ends, &entries, &hits, &left, &sums}) std::free(b->data);
    }
};

struct ThreadScratch : Scratch {
    ThreadScratch() : Scratch{} {}
    ~ThreadScratch() {
        for (Buffer* b : {&keys, &slab, &pairs, &sorted, &counts, &open, &state, &sums}) std::free(b->data);
    }
};
thread_local ThreadScratch scratch;

// Numbers below 1e-38 count as zero inside a kernel: they are worth nothing here and some processors take long over them.
struct FlushDenormals {
#if defined(__x86_64__)
    unsigned before = _mm_getcsr();
    FlushDenormals() { _mm_setcsr(before | 0x8040); }
    ~FlushDenormals() { _mm_setcsr(before); }
#endif
};

struct Memory {  // of one forward call
    std::vector<View> views;
    int64_t n = 0;
    Owned records, rows;
    std::unique_ptr<OwnedBand[]> bands;
    int64_t n_bands = 0;  // allocated
};

std::mutex spares_mutex;
std::vector<std::unique_ptr<Memory>> spares;  // of calls that are over, for the next ones
constexpr size_t MOST_SPARES = 4;

// What one forward call leaves for its backward pass.
struct Frame {
    std::unique_ptr<Memory> memory;
    Frame() {
        std::lock_guard<std::mutex> lock(spares_mutex);
        if (spares.empty()) {
            memory = std::make_unique<Memory>();
        } else {
            memory = std::move(spares.back());
            spares.pop_back();
        }
    }
    ~Frame() {
        std::lock_guard<std::mutex> lock(spares_mutex);
        if (spares.size() < MOST_SPARES) spares.push_back(std::move(memory));
    }
};

void require(bool condition, const char* message) {
    if (!condition) throw std::invalid_argument(message);
}

View make_view(const float* T, const float* K, const float* background, int width, int height) {
    View v;
    for (int i = 0; i < 3; ++i) {
        for (int j = 0; j < 3; ++j) v.rotation[3 * i + j] = T[4 * i + j];
        v.translation[i] = T[4 * i + 3];
        v.background[i] = background[i];
    }
    for (int j = 0; j < 3; ++j) v.center[j] = -float(double(T[j]) * T[3] + double(T[4 + j]) * T[7] + double(T[8 + j]) * T[11]);
    v.fx = K[0], v.fy = K[4], v.cx = K[2], v.cy = K[5];
    float margin_x = FOV_MARGIN * 0.5f * width / v.fx, margin_y = FOV_MARGIN * 0.5f * height / v.fy;
    v.low_x = -(v.cx / v.fx + margin_x), v.high_x = (width - v.cx) / v.fx + margin_x;
    v.low_y = -(v.cy / v.fy + margin_y), v.high_y = (height - v.cy) / v.fy + margin_y;
    v.width = width, v.height = height;
    v.tiles_x = (width + TILE - 1) / TILE;
    v.bands = ((height + TILE - 1) / TILE + BAND_ROWS - 1) / BAND_ROWS;
    return v;
}

// The five parameters and the screen offsets; each has a view axis or is shared. Null where there is none.
template <class Float>
struct Inputs {
    Float* data[6];
    int64_t stride[6];
    Fields<Float> at(int64_t view) const {
        Float* p[6];
        for (int f = 0; f < 6; ++f) p[f] = data[f] ? data[f] + view * stride[f] : nullptr;
        return {p[0], p[1], p[2], p[3], p[4], p[5]};
    }
};

using In = ConstArray<>;
using Out = Array<>;
template <class A>
using Some = std::vector<std::optional<A>>;  // in the order of Gaussians' fields, then screen_offsets

template <class Float, class A>
Inputs<Float> make_inputs(int64_t n_views, int64_t n, int64_t coefficients, const Some<A>& arrays) {
    static const char* const NAMES[] = {"means", "quats", "log_scales", "logit_opacities", "sh", "screen_offsets"};
    const int64_t sizes[] = {3, 4, 3, 1, 3 * coefficients, 2};
    const size_t ndims[] = {2, 2, 2, 1, 3, 3};
    require(arrays.size() == 6, "wanted the five fields of the Gaussians and screen_offsets or None");
    Inputs<Float> inputs;
    for (int f = 0; f < 6; ++f) {
        inputs.data[f] = nullptr, inputs.stride[f] = 0;
        if (!arrays[f]) continue;
        bool per_view = f == 5 || arrays[f]->ndim() > ndims[f];
        int64_t wanted = n * sizes[f] * (per_view ? n_views : 1);
        size_t axes = f == 5 ? 3 : ndims[f] + per_view;
        if (arrays[f]->ndim() != axes || int64_t(arrays[f]->size()) != wanted)
            throw std::invalid_argument(std::string(NAMES[f]) + " holds " + std::to_string(arrays[f]->size()) + " numbers in " +
                                        std::to_string(arrays[f]->ndim()) + " axes: wanted " + std::to_string(wanted) + " in " +
                                        std::to_string(axes));
        inputs.data[f] = arrays[f]->data();
        inputs.stride[f] = per_view ? n * sizes[f] : 0;
    }
    return inputs;
}

int degree_of(int64_t coefficients) {
    for (int degree = 0; degree < 4; ++degree)
        if (coefficients == (degree + 1) * (degree + 1)) return degree;
    throw std::invalid_argument("sh has " + std::to_string(coefficients) + " coefficients per channel: wanted 1, 4, 9 or 16");
}

struct Parameters {
    int64_t n, coefficients;
    int degree;
};

Parameters parameters_of(const Some<In>& fields) {
    require(fields.size() == 6, "wanted the five fields of the Gaussians and screen_offsets or None");
    for (int f = 0; f < 5; ++f) require(fields[f].has_value(), "a field of the Gaussians is None");
    require(fields[0]->ndim() >= 2 && fields[4]->ndim() >= 3, "means or sh has too few axes");
    int64_t coefficients = int64_t(fields[4]->shape(fields[4]->ndim() - 2));
    return {int64_t(fields[0]->shape(fields[0]->ndim() - 2)), coefficients, degree_of(coefficients)};
}

Frame* forward(
    const Some<In>& fields, ConstArray<nb::shape<-1, 4, 4>> T_camera_world, ConstArray<nb::shape<-1, 3, 3>> K,
    ConstArray<nb::shape<-1, 3>> background, Array<nb::shape<-1, -1, -1, 3>> rgb, Array<nb::ndim<3>> alpha,
    Array<nb::ndim<3>> depth, nb::ndarray<int32_t, nb::device::cpu, nb::c_contig, nb::ndim<2>> radii, bool keep) {
    const auto [n_, coefficients, degree_] = parameters_of(fields);
    const int64_t n = n_, b = T_camera_world.shape(0), height = rgb.shape(1), width = rgb.shape(2);
    const int degree = degree_;
    Inputs<const float> inputs = make_inputs<const float>(b, n, coefficients, fields);
    require(width >= 1 && height >= 1 && width <= 32768 && height <= 32768, "an image is 1 to 32768 pixels wide and high");
    require(n <= INT32_MAX, "more than 2^31 Gaussians");
    require(int64_t(K.shape(0)) == b && int64_t(background.shape(0)) == b && int64_t(rgb.shape(0)) == b,
            "K, background or rgb is not of as many views as T_camera_world");
    require(int64_t(alpha.size()) == b * height * width && int64_t(depth.size()) == b * height * width,
            "alpha or depth is not of rgb's size");
    require(int64_t(radii.shape(0)) == b && int64_t(radii.shape(1)) == n, "radii is not of shape (views, Gaussians)");

    auto frame = std::make_unique<Frame>();
    Memory& m = *frame->memory;
    m.n = n;
    m.views.clear();
    for (int64_t v = 0; v < b; ++v)
        m.views.push_back(make_view(T_camera_world.data() + 16 * v, K.data() + 9 * v, background.data() + 3 * v, int(width),
                                    int(height)));
    const int64_t bands = b ? m.views[0].bands : 0, blocks = (n + BLOCK - 1) / BLOCK;
    if (m.n_bands < b * bands) m.bands = std::make_unique<OwnedBand[]>(size_t(m.n_bands = b * bands));
    Record* records = m.records.room<Record>(b * n);
    Rows* rows = m.rows.room<Rows>(b * n);
    float *rgb_data = rgb.data(), *alpha_data = alpha.data(), *depth_data = depth.data();
    int32_t* radii_data = radii.data();
    {
        nb::gil_scoped_release release;
        const ProjectKernels& project = GS4D_KERNELS(project_kernels);
        const RasterKernels& raster = GS4D_KERNELS(raster_kernels);
        parallel_for(b * blocks, [&](int64_t chunk) {
            FlushDenormals flush;
            int64_t v = chunk / blocks, begin = chunk % blocks * BLOCK;
            ProjectArgs args{&m.views[v], inputs.at(v), records + v * n, rows + v * n, radii_data + v * n};
            project.forward[degree](args, begin, std::min(n, begin + BLOCK));
        });
        parallel_for(b * bands, [&](int64_t chunk) {
            FlushDenormals flush;
            int64_t v = chunk / bands, pixels = v * height * width;
            BandArgs args{&m.views[v], records + v * n, rows + v * n, n, int(chunk % bands), &m.bands[chunk], &scratch,
                          rgb_data + 3 * pixels, alpha_data + pixels, depth_data + pixels, nullptr, nullptr, nullptr, keep};
            raster.forward(args);
        });
    }
    return frame.release();  // Python owns it
}

void backward(const Frame& frame, const Some<In>& fields, In alpha, In depth, const Some<In>& gradients,
              const Some<Out>& out_fields) {
    Memory& m = *frame.memory;
    const int64_t b = int64_t(m.views.size()), n = m.n;
    const Parameters parameters = parameters_of(fields);
    require(parameters.n == n, "the fields are not those of the forward pass");
    require(gradients.size() == 3, "wanted the gradients of rgb, alpha and depth or None");
    const int degree = parameters.degree;
    Inputs<const float> inputs = make_inputs<const float>(b, n, parameters.coefficients, fields);
    Inputs<float> outputs = make_inputs<float>(b, n, parameters.coefficients, out_fields);
    const int64_t pixels = b ? int64_t(m.views[0].width) * m.views[0].height : 0;
    auto pixel_data = [&](const std::optional<In>& array, int64_t channels) -> const float* {
        if (!array) return nullptr;
        require(int64_t(array->size()) == b * pixels * channels, "an image gradient is not of its image's size");
        return array->data();
    };
    const float *grad_rgb_data = pixel_data(gradients[0], 3), *grad_alpha_data = pixel_data(gradients[1], 1);
    const float *grad_depth_data = pixel_data(gradients[2], 1);
    const float *alpha_data = pixel_data(alpha, 1), *depth_data = pixel_data(depth, 1);

    nb::gil_scoped_release release;
    const ProjectKernels& project = GS4D_KERNELS(project_kernels);
    const RasterKernels& raster = GS4D_KERNELS(raster_kernels);
    const Record* records = static_cast<const Record*>(m.records.data);
    const Rows* rows = static_cast<const Rows*>(m.rows.data);
    const int64_t bands = b ? m.views[0].bands : 0, blocks = (n + BLOCK - 1) / BLOCK;
    parallel_for(b * bands, [&](int64_t chunk) {
        FlushDenormals flush;
        int64_t v = chunk / bands, at = v * pixels;
        auto offset = [&](const float* p, int64_t channels) { return p ? p + at * channels : nullptr; };
        BandArgs args{&m.views[v], records + v * n, rows + v * n, n, int(chunk % bands), &m.bands[chunk], &scratch,
                      nullptr, const_cast<float*>(alpha_data) + at, const_cast<float*>(depth_data) + at,
                      offset(grad_rgb_data, 3), offset(grad_alpha_data, 1), offset(grad_depth_data, 1), true};
        raster.backward(args);
    });
    parallel_for(blocks, [&](int64_t block) {
        FlushDenormals flush;
        for (int64_t v = 0; v < b; ++v) {
            bool add[6];
            for (int f = 0; f < 6; ++f) add[f] = v > 0 && outputs.stride[f] == 0;
            Fields<const bool> adds{add, add + 1, add + 2, add + 3, add + 4, add + 5};
            ProjectBackwardArgs args{&m.views[v],     inputs.at(v), outputs.at(v),        adds,
                                     records + v * n, rows + v * n, &m.bands[v * bands]};
            project.backward[degree](args, block * BLOCK, std::min(n, (block + 1) * BLOCK));
        }
    });
}

}  // namespace

void bind_raster(nb::module_& m) {
    nb::class_<Frame>(m, "Frame");
    m.def("raster_forward", forward, nb::arg("fields"), nb::arg("T_camera_world"), nb::arg("K"), nb::arg("background"),
          nb::arg("rgb"), nb::arg("alpha"), nb::arg("depth"), nb::arg("radii"), nb::arg("keep"));
    m.def("raster_backward", backward, nb::arg("frame"), nb::arg("fields"), nb::arg("alpha"), nb::arg("depth"),
          nb::arg("gradients"), nb::arg("out_fields"));
}

}  // namespace gs4d
