// Pictures of triangle meshes for Python: the nearest triangle in every sample of a pixel, its colour in light, and the
// mean of the samples. Surfaces that let something through are taken one behind the other, nearest first.
//
// Bands of pixel rows are the units of work, so that no two threads write to one pixel. A band goes over the triangles in
// their order and of two at the same depth keeps the first: the picture does not depend on the number of threads.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>

#include "module.h"
#include "pool.h"

namespace gs4d {

namespace {

constexpr int64_t MESH_BAND = 16;   // rows of pixels
constexpr int LAYERS = 8;           // of surfaces one behind the other that are looked at
constexpr float CLEAR_MIN = 1e-3f;  // what is seen through less than this is not looked at
constexpr int COLUMNS = 11;         // per vertex: normal, texture coordinates of base colour and emission, RGBA

enum Wrap { REPEAT, MIRROR, CLAMP };
enum Alpha { OPAQUE, MASK, BLEND };

struct Texture {
    const float* pixels;  // null: white
    int64_t height, width;
    int wrap_u, wrap_v;
    bool smooth;
};

struct Material {
    float color[4], emissive[3];
    int alpha;
    float cutoff;
    bool unlit;
    Texture base, shine;
};

struct Light {
    float sky[3], ground[3], lamp[3], direction[3];
};

struct Corner {
    double x, y, w;  // samples, and one over depth, which is linear on the screen
};

// Twice the signed area of (a, b, p). Coordinates are floats, so the differences are exact and the products nearly so:
// triangles that share an edge leave no gap along it.
inline double edge(const Corner& a, const Corner& b, double x, double y) {
    return (b.x - a.x) * (y - a.y) - (b.y - a.y) * (x - a.x);
}

inline Corner corner(const float* screen, int32_t vertex) {
    const float* v = screen + 3 * int64_t(vertex);
    return {double(v[0]), double(v[1]), double(v[2])};
}

// Where a coordinate falls on a row of texels: the two it lies between, and how far towards the second.
inline float texel(float at, int wrap, int64_t length, bool smooth, int64_t* low, int64_t* high) {
    if (wrap == REPEAT) at -= std::floor(at);
    if (wrap == MIRROR) at = 1 - std::abs(at - 2 * std::floor(at / 2) - 1);
    if (!(at > 0)) at = 0;  // not a number, too
    at = std::min(at, 1.0f) * float(length);
    if (!smooth) {
        *low = *high = std::min(int64_t(at), length - 1);
        return 0;
    }
    float first = std::floor(at - 0.5f);
    *low = int64_t(first), *high = *low + 1;
    if (*low < 0) *low = wrap == REPEAT ? length - 1 : 0;
    if (*high >= length) *high = wrap == REPEAT ? 0 : length - 1;
    return at - 0.5f - first;
}

void multiply_texture(const Texture& t, const float* uv, float* color, int channels) {
    if (!t.pixels) return;
    int64_t left, right, top, bottom;
    float across = texel(uv[0], t.wrap_u, t.width, t.smooth, &left, &right);
    float down = texel(uv[1], t.wrap_v, t.height, t.smooth, &top, &bottom);
    const float *p00 = t.pixels + 4 * (top * t.width + left), *p01 = t.pixels + 4 * (top * t.width + right);
    const float *p10 = t.pixels + 4 * (bottom * t.width + left), *p11 = t.pixels + 4 * (bottom * t.width + right);
    for (int c = 0; c < channels; ++c) {
        float upper = p00[c] + across * (p01[c] - p00[c]), lower = p10[c] + across * (p11[c] - p10[c]);
        color[c] *= upper + down * (lower - upper);
    }
}

struct Scene {
    const float *screen, *columns, *encoded;
    const int32_t *faces, *material_of;
    const uint8_t* flipped;
    int64_t count, codes, height, width;  // of the picture, in pixels
    int samples;
    bool opaque;
    Light light;
    std::vector<Material> materials;
    std::vector<int32_t> rows;  // first and last row of samples that each triangle may cover
};

// sRGB colour and alpha of a triangle at (x, y).
void shade(const Scene& s, int32_t face, double x, double y, float* rgba) {
    const int32_t* v = s.faces + 3 * int64_t(face);
    Corner a = corner(s.screen, v[0]), b = corner(s.screen, v[1]), c = corner(s.screen, v[2]);
    double wa = edge(b, c, x, y) * a.w, wb = edge(c, a, x, y) * b.w, wc = edge(a, b, x, y) * c.w;
    double scale = 1 / (wa + wb + wc);
    float ra = float(wa * scale), rb = float(wb * scale), rc = float(wc * scale), mix[COLUMNS];
    const float *va = s.columns + COLUMNS * int64_t(v[0]), *vb = s.columns + COLUMNS * int64_t(v[1]);
    const float* vc = s.columns + COLUMNS * int64_t(v[2]);
    for (int i = 0; i < COLUMNS; ++i) mix[i] = ra * va[i] + rb * vb[i] + rc * vc[i];
    const Material& m = s.materials[size_t(s.material_of[face])];
    float shine[3] = {m.emissive[0], m.emissive[1], m.emissive[2]};
    for (int i = 0; i < 4; ++i) rgba[i] = m.color[i] * mix[7 + i];
    multiply_texture(m.base, mix + 3, rgba, 4);
    multiply_texture(m.shine, mix + 5, shine, 3);
    float length = std::sqrt(mix[0] * mix[0] + mix[1] * mix[1] + mix[2] * mix[2]);
    float inverse = (s.flipped[face] ? -1.0f : 1.0f) / std::max(length, 1e-9f);
    float above = 0.5f + 0.5f * mix[1] * inverse;
    const float* d = s.light.direction;
    float facing = std::max((mix[0] * d[0] + mix[1] * d[1] + mix[2] * d[2]) * inverse, 0.0f);
    for (int i = 0; i < 3; ++i) {
        float light = s.light.ground[i] + above * (s.light.sky[i] - s.light.ground[i]) + facing * s.light.lamp[i];
        float value = rgba[i] * (m.unlit ? 1.0f : light) + shine[i];
        value = value > 0 ? std::min(value, 1.0f) : 0.0f;
        rgba[i] = s.encoded[int64_t(value * float(s.codes - 1) + 0.5f)];
    }
    if (m.alpha == OPAQUE) rgba[3] = 1;
    if (m.alpha == MASK) rgba[3] = rgba[3] >= m.cutoff ? 1.0f : 0.0f;
    if (m.alpha == BLEND) rgba[3] = rgba[3] > 0 ? std::min(rgba[3], 1.0f) : 0.0f;
}

struct Scratch {
    std::vector<float> nearest, beyond, clear, sums;
    std::vector<int32_t> face;
};

// The nearest triangle in every sample of the rows [first, last], and nearer than `beyond` says where that is given.
void find(const Scene& s, int64_t first, int64_t last, const float* beyond, Scratch* k) {
    int64_t width = s.width * s.samples;
    std::fill(k->face.begin(), k->face.end(), -1);
    std::fill(k->nearest.begin(), k->nearest.end(), 0.0f);
    for (int64_t f = 0; f < s.count; ++f) {
        int64_t top = std::max(int64_t(s.rows[size_t(2 * f)]), first);
        int64_t bottom = std::min(int64_t(s.rows[size_t(2 * f + 1)]), last);
        if (top > bottom) continue;
        const int32_t* v = s.faces + 3 * f;
        Corner a = corner(s.screen, v[0]), b = corner(s.screen, v[1]), c = corner(s.screen, v[2]);
        double area = edge(a, b, c.x, c.y);
        if (!(std::abs(area) > 0)) continue;
        double inverse = 1 / area;
        int64_t left = int64_t(std::ceil(std::max(std::min({a.x, b.x, c.x}) - 0.5, 0.0)));
        int64_t right = int64_t(std::floor(std::min(std::max({a.x, b.x, c.x}) - 0.5, double(width - 1))));
        for (int64_t y = top; y <= bottom; ++y)
            for (int64_t x = left; x <= right; ++x) {
                double wa = edge(b, c, double(x) + 0.5, double(y) + 0.5) * inverse;
                double wb = edge(c, a, double(x) + 0.5, double(y) + 0.5) * inverse;
                double wc = edge(a, b, double(x) + 0.5, double(y) + 0.5) * inverse;
                if (wa < 0 || wb < 0 || wc < 0) continue;
                float w = float(wa * a.w + wb * b.w + wc * c.w);
                size_t place = size_t((y - first) * width + x);
                if (w > k->nearest[place] && (!beyond || w < beyond[place]))
                    k->nearest[place] = w, k->face[place] = int32_t(f);
            }
    }
}

void draw_band(const Scene& s, int64_t band, uint8_t* out, Scratch* k) {
    int64_t rows = std::min(MESH_BAND, s.height - band * MESH_BAND), width = s.width * s.samples;
    int64_t first = band * MESH_BAND * s.samples, last = first + rows * s.samples - 1;
    size_t samples = size_t(rows * s.samples * width);
    k->face.resize(samples), k->nearest.resize(samples);
    k->clear.assign(samples, 1.0f);
    k->sums.assign(size_t(4 * rows * s.width), 0.0f);
    if (!s.opaque) k->beyond.resize(samples);
    for (int layer = 0; layer < (s.opaque ? 1 : LAYERS); ++layer) {
        find(s, first, last, layer ? k->beyond.data() : nullptr, k);
        bool more = false;
        for (size_t place = 0; place < samples; ++place) {
            if (!s.opaque) k->beyond[place] = 0;
            if (k->face[place] < 0) continue;
            int64_t x = int64_t(place) % width, y = int64_t(place) / width;
            float rgba[4];
            shade(s, k->face[place], double(x) + 0.5, double(first + y) + 0.5, rgba);
            float alpha = rgba[3] * k->clear[place];
            float* sum = k->sums.data() + 4 * (y / s.samples * s.width + x / s.samples);
            for (int c = 0; c < 3; ++c) sum[c] += alpha * rgba[c];
            sum[3] += alpha;
            k->clear[place] -= alpha;
            if (!s.opaque && k->clear[place] > CLEAR_MIN) k->beyond[place] = k->nearest[place], more = true;
        }
        if (!more) break;
    }
    uint8_t* to = out + 4 * band * MESH_BAND * s.width;
    float share = 255 / float(s.samples * s.samples);
    for (int64_t pixel = 0; pixel < rows * s.width; ++pixel, to += 4) {
        const float* sum = k->sums.data() + 4 * pixel;
        to[3] = uint8_t(std::min(sum[3] * share + 0.5f, 255.0f));
        for (int c = 0; c < 3; ++c) to[c] = to[3] ? uint8_t(std::min(sum[c] / sum[3] * 255 + 0.5f, 255.0f)) : uint8_t(0);
    }
}

using Vertices = ConstArray<nb::shape<-1, 3>>;
using Columns = ConstArray<nb::shape<-1, COLUMNS>>;
using Pixels = ConstArray<nb::shape<-1, -1, 4>>;
using Picture = nb::ndarray<uint8_t, nb::device::cpu, nb::c_contig, nb::shape<-1, -1, 4>>;
template <class T, class... Shape>
using Const = nb::ndarray<const T, nb::device::cpu, nb::c_contig, Shape...>;

void mesh_draw(const Vertices& screen, const Columns& columns, const Const<int32_t, nb::shape<-1, 3>>& faces,
               const Const<int32_t, nb::ndim<1>>& material_of, const Const<uint8_t, nb::ndim<1>>& flipped,
               const ConstArray<nb::shape<-1, 10>>& materials, const Const<int32_t, nb::shape<-1, 2, 4>>& reads,
               const std::vector<Pixels>& textures, const ConstArray<nb::shape<4, 3>>& light,
               const ConstArray<nb::ndim<1>>& encoded, int samples, const Picture& out) {
    auto require = [](bool good) {
        if (!good) throw std::invalid_argument("mesh_draw: the arrays do not fit together");
    };
    Scene s{};
    s.screen = screen.data(), s.columns = columns.data(), s.encoded = encoded.data(), s.faces = faces.data();
    s.material_of = material_of.data(), s.flipped = flipped.data();
    s.count = int64_t(faces.shape(0)), s.codes = int64_t(encoded.shape(0)), s.samples = samples;
    s.height = int64_t(out.shape(0)), s.width = int64_t(out.shape(1)), s.opaque = true;
    require(columns.shape(0) == screen.shape(0) && material_of.shape(0) == faces.shape(0));
    require(flipped.shape(0) == faces.shape(0) && reads.shape(0) == materials.shape(0) && samples > 0 && s.codes > 1);
    std::memcpy(&s.light, light.data(), sizeof(Light));
    for (size_t i = 0; i < materials.shape(0); ++i) {
        const float* from = materials.data() + 10 * i;
        Material m{};
        std::copy(from, from + 4, m.color), std::copy(from + 4, from + 7, m.emissive);
        m.alpha = int(from[7]), m.cutoff = from[8], m.unlit = from[9] != 0;
        for (int k = 0; k < 2; ++k) {
            const int32_t* read = reads.data() + 8 * i + 4 * k;
            if (read[0] < 0) continue;
            require(size_t(read[0]) < textures.size() && textures[size_t(read[0])].size() > 0);
            const auto& t = textures[size_t(read[0])];
            (k ? m.shine : m.base) = {t.data(), int64_t(t.shape(0)), int64_t(t.shape(1)), read[1], read[2], read[3] != 0};
        }
        s.opaque = s.opaque && m.alpha == OPAQUE;
        s.materials.push_back(m);
    }
    s.rows.resize(size_t(2 * s.count));
    double end = double(s.height * samples - 1);
    for (int64_t f = 0; f < s.count; ++f) {
        double low = 1e30, high = -1e30;
        for (int k = 0; k < 3; ++k) {
            int32_t vertex = s.faces[3 * f + k];
            require(vertex >= 0 && size_t(vertex) < screen.shape(0));
            double y = double(s.screen[3 * int64_t(vertex) + 1]);
            low = std::min(low, y), high = std::max(high, y);
        }
        require(s.material_of[f] >= 0 && size_t(s.material_of[f]) < materials.shape(0));
        s.rows[size_t(2 * f)] = int32_t(std::ceil(std::min(std::max(low - 0.5, 0.0), end + 1)));
        s.rows[size_t(2 * f + 1)] = int32_t(std::floor(std::max(std::min(high - 0.5, end), -1.0)));
    }
    uint8_t* to = out.data();
    nb::gil_scoped_release release;
    parallel_for((s.height + MESH_BAND - 1) / MESH_BAND, [&](int64_t band) {
        static thread_local Scratch scratch;  // kept, because fresh pages cost more than small pictures
        draw_band(s, band, to, &scratch);
    });
}

}  // namespace

void bind_mesh(nb::module_& m) {
    m.def("mesh_draw", mesh_draw, nb::arg("screen"), nb::arg("columns"), nb::arg("faces"), nb::arg("material_of"),
          nb::arg("flipped"), nb::arg("materials"), nb::arg("reads"), nb::arg("textures"), nb::arg("light"), nb::arg("encoded"),
          nb::arg("samples"), nb::arg("out"));
}

}  // namespace gs4d
