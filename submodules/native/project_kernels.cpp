// Projection of Gaussians onto the screen and its gradient, W at a time: EWA splatting (Zwicker et al. 2001) as in
// gs4d/render/reference.py, with the covariance held as its square root. With M = J W R S (2x3: Jacobian, camera rotation,
// Gaussian's rotation, scales) the screen covariance is M M^T + EPS2D, and by Cauchy-Binet its determinant is the sum
// |m1 x m2|^2 + EPS2D (|m1|^2 + |m2|^2) + EPS2D^2 of positive terms, which needs no cancellation.
#include "constants.h"
#include "raster.h"
#include "simd.h"

namespace gs4d {
namespace GS4D_ISA {

namespace {

constexpr float LOG2_E = 1.44269504f, LN_2 = 0.69314718f, LARGEST = 3.4e38f;

struct v3 {
    vf x, y, z;
};

INLINE vf dot(v3 a, v3 b) { return fma(a.x, b.x, fma(a.y, b.y, a.z * b.z)); }
INLINE v3 cross(v3 a, v3 b) {
    return {fnma(a.z, b.y, a.y * b.z), fnma(a.x, b.z, a.z * b.x), fnma(a.y, b.x, a.x * b.y)};
}
INLINE v3 scaled(v3 a, vf s) { return {a.x * s, a.y * s, a.z * s}; }
INLINE v3 plus(v3 a, v3 b) { return {a.x + b.x, a.y + b.y, a.z + b.z}; }
INLINE v3 select3(vm m, v3 a, v3 b) { return {select(m, a.x, b.x), select(m, a.y, b.y), select(m, a.z, b.z)}; }
INLINE vm finite(vf x) { return le(abs(x), set1(LARGEST)); }
INLINE vm finite(v3 a) { return both(finite(a.x), both(finite(a.y), finite(a.z))); }

// One field of W Gaussians, a vector per component.
template <int WIDTH>
struct Columns {
    alignas(64) float data[WIDTH][W];
    INLINE_LAMBDA Columns() {}
    INLINE_LAMBDA Columns(const float* rows, int n) { rows_to_columns(rows, WIDTH, n, data[0]); }
    INLINE_LAMBDA vf operator[](int f) const { return load(data[f]); }
    INLINE_LAMBDA v3 at(int f) const { return {load(data[f]), load(data[f + 1]), load(data[f + 2])}; }
    INLINE_LAMBDA void set(int f, vf x) { store(data[f], x); }
    INLINE_LAMBDA void set(int f, v3 x) { store(data[f], x.x), store(data[f + 1], x.y), store(data[f + 2], x.z); }
    INLINE_LAMBDA void write(float* rows, int n, bool add) const { columns_to_rows(data[0], WIDTH, n, add, rows); }
};

template <int WIDTH>
INLINE void write(float* rows, int n, bool add, const vf (&values)[WIDTH]) {
    Columns<WIDTH> columns;
    for (int f = 0; f < WIDTH; ++f) columns.set(f, values[f]);
    columns.write(rows, n, add);
}

// Everything between the parameters and the screen that the gradient needs again.
struct Projected {
    v3 mean, camera;             // centre in the world and in the camera
    vf w, x, y, z, quat_scale;   // unit quaternion, and 1 / norm (0 for the zero quaternion)
    v3 scale, rot1, rot2, rot3;  // R's rows
    v3 row1, row2;               // of J W
    v3 m1, m2;                   // rows of M
    vf inv_z, slope_x, slope_y;  // clamped x / z and y / z
    vm free_x, free_y;           // not clamped
    vf a, b, c, det, u, v;
    vf opacity, transparency;    // sigmoid(logit) and sigmoid(-logit)
    vf log2_opacity;
    vm safe;
};

INLINE v3 camera_space(const View& view, v3 p) {
    const float *r = view.rotation, *t = view.translation;
    return {fma(set1(r[0]), p.x, fma(set1(r[1]), p.y, fma(set1(r[2]), p.z, set1(t[0])))),
            fma(set1(r[3]), p.x, fma(set1(r[4]), p.y, fma(set1(r[5]), p.z, set1(t[1])))),
            fma(set1(r[6]), p.x, fma(set1(r[7]), p.y, fma(set1(r[8]), p.z, set1(t[2]))))};
}
INLINE v3 rotate(const float* r, v3 p) {  // R p
    return {fma(set1(r[0]), p.x, fma(set1(r[1]), p.y, set1(r[2]) * p.z)),
            fma(set1(r[3]), p.x, fma(set1(r[4]), p.y, set1(r[5]) * p.z)),
            fma(set1(r[6]), p.x, fma(set1(r[7]), p.y, set1(r[8]) * p.z))};
}
INLINE v3 rotate_back(const float* r, v3 p) {  // R^T p
    return {fma(set1(r[0]), p.x, fma(set1(r[3]), p.y, set1(r[6]) * p.z)),
            fma(set1(r[1]), p.x, fma(set1(r[4]), p.y, set1(r[7]) * p.z)),
            fma(set1(r[2]), p.x, fma(set1(r[5]), p.y, set1(r[8]) * p.z))};
}

// Lanes outside `wanted`, and those that are not finite or not in front of the camera, get harmless values: no NaN of
// theirs can reach the gradients.
INLINE Projected project(const View& view, const Fields<const float>& in, int64_t i, int n, vm wanted) {
    Projected p;
    const Columns<4> quats(in.quats + 4 * i, n);
    p.mean = Columns<3>(in.means + 3 * i, n).at(0);
    v3 logs = Columns<3>(in.log_scales + 3 * i, n).at(0);
    vf logit = load_first(in.logit_opacities + i, n);
    p.w = quats[0], p.x = quats[1], p.y = quats[2], p.z = quats[3];

    p.camera = camera_space(view, p.mean);
    vf limit = set1(88.7f);  // e^x overflows beyond
    vm ok = both(finite(p.mean), both(le(logs.x, limit), both(le(logs.y, limit), le(logs.z, limit))));
    ok = both(ok, both(both(finite(p.w), finite(p.x)), both(finite(p.y), finite(p.z))));
    ok = both(ok, both(ge(p.camera.z, set1(NEAR)), le(p.camera.z, set1(FAR))));
    p.safe = both(both(ok, wanted), ge(abs(logit), zero()));  // the last one is false for a NaN only
    vf one = set1(1);
    p.mean = select3(p.safe, p.mean, {zero(), zero(), zero()});
    p.camera = select3(p.safe, p.camera, {zero(), zero(), one});
    logs = select3(p.safe, logs, {zero(), zero(), zero()});
    logit = zero_unless(p.safe, logit);
    p.w = select(p.safe, p.w, one);
    p.x = zero_unless(p.safe, p.x), p.y = zero_unless(p.safe, p.y), p.z = zero_unless(p.safe, p.z);

    vf e = exp(-abs(logit)), big = one / (one + e), small = e * big;
    vm positive = ge(logit, zero());
    p.opacity = select(positive, big, small);
    p.transparency = select(positive, small, big);
    // log2(1 + e) + |x| log2(e) where the logit is negative
    p.log2_opacity = fnma(log(one + e), set1(LOG2_E), zero_unless(lt(logit, zero()), logit) * set1(LOG2_E));

    // The largest component is divided out first, so that no square over- or underflows.
    vf largest = max(max(abs(p.w), abs(p.x)), max(abs(p.y), abs(p.z)));
    vm nonzero = gt(largest, set1(QUAT_MIN));
    largest = select(nonzero, largest, one);
    vf w = p.w / largest, x = p.x / largest, y = p.y / largest, z = p.z / largest;
    vf squared = fma(w, w, fma(x, x, fma(y, y, z * z)));
    vf inv_norm = one / sqrt(select(nonzero, squared, one));
    p.quat_scale = zero_unless(nonzero, inv_norm / largest);
    p.w = select(nonzero, w * inv_norm, one);
    p.x = zero_unless(nonzero, x * inv_norm);
    p.y = zero_unless(nonzero, y * inv_norm);
    p.z = zero_unless(nonzero, z * inv_norm);

    vf two = set1(2);
    vf xx = p.x * p.x, yy = p.y * p.y, zz = p.z * p.z, xy = p.x * p.y, xz = p.x * p.z, yz = p.y * p.z;
    vf wx = p.w * p.x, wy = p.w * p.y, wz = p.w * p.z;
    p.rot1 = {fnma(two, yy + zz, one), two * (xy - wz), two * (xz + wy)};
    p.rot2 = {two * (xy + wz), fnma(two, xx + zz, one), two * (yz - wx)};
    p.rot3 = {two * (xz - wy), two * (yz + wx), fnma(two, xx + yy, one)};
    p.scale = {exp(logs.x), exp(logs.y), exp(logs.z)};

    p.inv_z = one / p.camera.z;
    vf ratio_x = p.camera.x * p.inv_z, ratio_y = p.camera.y * p.inv_z;
    p.slope_x = clamp(ratio_x, set1(view.low_x), set1(view.high_x));
    p.slope_y = clamp(ratio_y, set1(view.low_y), set1(view.high_y));
    p.free_x = both(ge(ratio_x, set1(view.low_x)), le(ratio_x, set1(view.high_x)));
    p.free_y = both(ge(ratio_y, set1(view.low_y)), le(ratio_y, set1(view.high_y)));
    p.u = fma(set1(view.fx), ratio_x, set1(view.cx));
    p.v = fma(set1(view.fy), ratio_y, set1(view.cy));
    if (in.screen_offsets) {
        const Columns<2> offsets(in.screen_offsets + 2 * i, n);
        p.u += offsets[0], p.v += offsets[1];
    }

    const float* r = view.rotation;
    vf fx = set1(view.fx) * p.inv_z, fy = set1(view.fy) * p.inv_z;
    p.row1 = {fx * fnma(p.slope_x, set1(r[6]), set1(r[0])), fx * fnma(p.slope_x, set1(r[7]), set1(r[1])),
              fx * fnma(p.slope_x, set1(r[8]), set1(r[2]))};
    p.row2 = {fy * fnma(p.slope_y, set1(r[6]), set1(r[3])), fy * fnma(p.slope_y, set1(r[7]), set1(r[4])),
              fy * fnma(p.slope_y, set1(r[8]), set1(r[5]))};
    auto times_rs = [&p](v3 row) INLINE_LAMBDA {
        vf x = fma(row.x, p.rot1.x, fma(row.y, p.rot2.x, row.z * p.rot3.x)) * p.scale.x;
        vf y = fma(row.x, p.rot1.y, fma(row.y, p.rot2.y, row.z * p.rot3.y)) * p.scale.y;
        vf z = fma(row.x, p.rot1.z, fma(row.y, p.rot2.z, row.z * p.rot3.z)) * p.scale.z;
        return v3{x, y, z};
    };
    p.m1 = times_rs(p.row1), p.m2 = times_rs(p.row2);
    vf blur = set1(EPS2D), n1 = dot(p.m1, p.m1), n2 = dot(p.m2, p.m2);
    v3 minors = cross(p.m1, p.m2);
    p.a = n1 + blur, p.b = dot(p.m1, p.m2), p.c = n2 + blur;
    p.det = fma(blur, n1 + n2 + blur, dot(minors, minors));
    return p;
}

// Spherical harmonics in 3DGS order and sign, one call of `term(index, value, d/dx, d/dy, d/dz)` per coefficient; unit
// directions, derivatives of the polynomials as they stand.
template <int COEFFICIENTS, class Term>
INLINE void harmonics(v3 d, const Term& term) {
    auto k = [](float value) { return set1(value); };
    vf x = d.x, y = d.y, z = d.z, o = zero();
    term(0, k(0.28209479177387814f), o, o, o);
    if constexpr (COEFFICIENTS >= 4) {
    const float c1 = 0.4886025119029199f;
    term(1, k(-c1) * y, o, k(-c1), o);
    term(2, k(c1) * z, o, o, k(c1));
    term(3, k(-c1) * x, k(-c1), o, o);
    if constexpr (COEFFICIENTS >= 9) {
    const float c2 = 1.0925484305920792f, c20 = 0.31539156525252005f, c22 = 0.5462742152960396f;
    vf xx = x * x, yy = y * y, zz = z * z;
    term(4, k(c2) * x * y, k(c2) * y, k(c2) * x, o);
    term(5, k(-c2) * y * z, o, k(-c2) * z, k(-c2) * y);
    term(6, k(c20) * (k(2) * zz - xx - yy), k(-2 * c20) * x, k(-2 * c20) * y, k(4 * c20) * z);
    term(7, k(-c2) * x * z, k(-c2) * z, o, k(-c2) * x);
    term(8, k(c22) * (xx - yy), k(2 * c22) * x, k(-2 * c22) * y, o);
    if constexpr (COEFFICIENTS >= 16) {
    const float a = 0.5900435899266435f, b = 1.445305721320277f, c = 0.4570457994644658f, e = 0.3731763325901154f;
    term(9, k(-a) * y * (k(3) * xx - yy), k(-6 * a) * x * y, k(-3 * a) * (xx - yy), o);
    term(10, k(2 * b) * x * y * z, k(2 * b) * y * z, k(2 * b) * x * z, k(2 * b) * x * y);
    term(11, k(-c) * y * (k(4) * zz - xx - yy), k(2 * c) * x * y, k(-c) * (k(4) * zz - xx - k(3) * yy), k(-8 * c) * y * z);
    term(12, k(e) * z * (k(2) * zz - k(3) * xx - k(3) * yy), k(-6 * e) * x * z, k(-6 * e) * y * z,
         k(3 * e) * (k(2) * zz - xx - yy));
    term(13, k(-c) * x * (k(4) * zz - xx - yy), k(-c) * (k(4) * zz - k(3) * xx - yy), k(2 * c) * x * y, k(-8 * c) * x * z);
    term(14, k(b) * z * (xx - yy), k(2 * b) * x * z, k(-2 * b) * y * z, k(b) * (xx - yy));
    term(15, k(-a) * x * (xx - k(3) * yy), k(-3 * a) * (xx - yy), k(6 * a) * x * y, o);
}}}
}

INLINE v3 direction(const View& view, v3 mean, vf* inv_distance) {
    v3 d = {mean.x - set1(view.center[0]), mean.y - set1(view.center[1]), mean.z - set1(view.center[2])};
    *inv_distance = set1(1) / max(sqrt(dot(d, d)), set1(1e-12f));
    return scaled(d, *inv_distance);
}

template <int COEFFICIENTS>
void forward(const ProjectArgs& args, int64_t begin, int64_t end) {
    const View& view = *args.view;
    constexpr int width = 3 * COEFFICIENTS;
    for (int64_t i = begin; i < end; i += W) {
        int n = int(end - i < W ? end - i : W);
        vm inside = lt(iota(), set1(float(n)));
        Projected p = project(view, args.in, i, n, inside);

        const Columns<width> sh(args.in.sh + width * i, n);
        vf inv_distance;
        v3 d = direction(view, p.mean, &inv_distance), color = {set1(0.5f), set1(0.5f), set1(0.5f)};
        vm ok = p.safe;
        harmonics<COEFFICIENTS>(d, [&](int k, vf basis, vf, vf, vf) INLINE_LAMBDA {
            ok = both(ok, finite(sh.at(3 * k)));
            color = plus(color, scaled(sh.at(3 * k), basis));
        });
        // Sums of finite coefficients may overflow, and an infinite colour would spoil every pixel of its tiles.
        ok = both(ok, le(max(abs(color.x), max(abs(color.y), abs(color.z))), set1(COLOR_MAX)));

        // Half size of the box in standard deviations: where alpha falls to ALPHA_MIN.
        vf level = set1(2 * LN_2) * (p.log2_opacity + set1(7.99435344f));  // 2 ln(255 opacity)
        vf extent = min(sqrt(max(level, zero())), set1(EXTENT_MAX));
        vf rx = ceil(extent * sqrt(p.a)), ry = ceil(extent * sqrt(p.c));
        ok = both(ok, both(finite(p.det), both(finite(p.u), finite(p.v))));
        ok = both(ok, both(ge(level, zero()), both(gt(rx, zero()), gt(ry, zero()))));
        ok = both(ok, both(gt(p.u + rx, zero()), lt(p.u - rx, set1(float(view.width)))));
        ok = both(ok, both(gt(p.v + ry, zero()), lt(p.v - ry, set1(float(view.height)))));
        int32_t radii[W];
        storei(radii, to_int(zero_unless(ok, min(max(rx, ry), set1(1073741824.0f)))));

        // A little more than the ellipse, so that rounding loses no pixel.
        level = max(level, zero()) * set1(1.0001f) + set1(1e-4f);
        vf inv_det = set1(1) / p.det, inv_c = set1(1) / p.c;
        vf half_x = sqrt(level * p.a), half_y = sqrt(level * p.c);
        vf first = clamp(floor((p.v - half_y - set1(0.5f)) * set1(1.0f / TILE)), zero(), set1(65535));
        vf last = floor((p.v + half_y - set1(0.5f)) * set1(1.0f / TILE));
        last = clamp(last, set1(-1), set1(float((view.height - 1) / TILE)));
        int32_t firsts[W], lasts[W];
        storei(firsts, to_int(select(ok, first, set1(1))));
        storei(lasts, to_int(select(both(ok, ge(last, first)), last, zero())));

        Columns<SUMS> fields;
        fields.set(0, p.u), fields.set(1, p.v);
        fields.set(2, p.c * inv_det * set1(0.5f * LOG2_E));
        fields.set(3, p.b * inv_det * set1(-LOG2_E));
        fields.set(4, p.a * inv_det * set1(0.5f * LOG2_E));
        fields.set(5, p.log2_opacity);
        fields.set(6, v3{max(color.x, zero()), max(color.y, zero()), max(color.z, zero())});
        fields.set(9, p.camera.z);
        fields.set(10, half_y), fields.set(11, half_x * p.b / p.a), fields.set(12, p.b * inv_c);
        vf aspect = p.det * inv_c;
        fields.set(13, aspect * level), fields.set(14, aspect * inv_c), fields.set(15, zero());
        fields.write((float*)(args.records + i), n, false);
        for (int lane = 0; lane < n; ++lane) {
            bool drawn = lasts[lane] >= firsts[lane];
            args.rows[i + lane] = {uint16_t(drawn ? firsts[lane] : 1), uint16_t(drawn ? lasts[lane] : 0)};
            args.radii[i + lane] = radii[lane];
        }
    }
}

// Adds up a block's moments over the bands of its view, in the order of the bands.
NOINLINE void gather(const ProjectBackwardArgs& args, int64_t begin, float* sums) {
    memset(sums, 0, sizeof(float) * SUMS * BLOCK);
    for (int b = 0; b < args.view->bands; ++b) {
        const Band& band = args.bands[b];
        const int64_t* starts = (const int64_t*)band.starts.data + begin / BLOCK;
        const int32_t* ids = (const int32_t*)band.ids.data;
        for (int64_t e = starts[0]; e < starts[1]; ++e) {
            float* to = sums + SUMS * (ids[e] - begin);
            const float* from = (const float*)band.sums.data + SUMS * e;
            for (int f = 0; f < SUMS; f += W) store(to + f, load(to + f) + load(from + f));
        }
    }
}

template <int COEFFICIENTS>
void backward(const ProjectBackwardArgs& args, int64_t begin, int64_t end) {
    const View& view = *args.view;
    const Fields<float>& out = args.out;
    constexpr int width = 3 * COEFFICIENTS;
    alignas(64) float sums[SUMS * BLOCK];
    gather(args, begin, sums);
    for (int64_t i = begin; i < end; i += W) {
        int n = int(end - i < W ? end - i : W);
        uint32_t drawn = 0;
        for (int lane = 0; lane < n; ++lane)
            drawn |= uint32_t(args.rows[i + lane].first <= args.rows[i + lane].last) << lane;
        Projected p = project(view, args.in, i, n, from_bits(drawn));
        const Columns<SUMS> s(sums + SUMS * (i - begin), n);
        auto moment = [&](int k) INLINE_LAMBDA { return zero_unless(p.safe, s[SUM_LANE[k]]); };
        vf h = moment(0), hx = moment(1), hxx = moment(2), hy = moment(3), hxy = moment(4), hyy = moment(5);
        v3 gcolor = {moment(6), moment(7), moment(8)};

        // With K the inverse of the screen covariance: dL/dK = -H / 2 (H the second moments), so dL/dcov = K H K / 2.
        vf inv_det = set1(1) / p.det;
        vf kxx = p.c * inv_det, kxy = -p.b * inv_det, kyy = p.a * inv_det;
        vf gu = -fma(kxx, hx, kxy * hy), gv = -fma(kxy, hx, kyy * hy);
        vf t11 = fma(kxx, hxx, kxy * hxy), t12 = fma(kxx, hxy, kxy * hyy);  // K H
        vf t21 = fma(kxy, hxx, kyy * hxy), t22 = fma(kxy, hxy, kyy * hyy);
        vf ga2 = fma(t11, kxx, t12 * kxy), gb = fma(t11, kxy, t12 * kyy);  // 2 dL/da and dL/db
        vf gc2 = fma(t21, kxy, t22 * kyy);
        v3 gm1 = plus(scaled(p.m1, ga2), scaled(p.m2, gb)), gm2 = plus(scaled(p.m2, gc2), scaled(p.m1, gb));

        // M = P R S with P = J W
        v3 t1 = {gm1.x * p.scale.x, gm1.y * p.scale.y, gm1.z * p.scale.z};
        v3 t2 = {gm2.x * p.scale.x, gm2.y * p.scale.y, gm2.z * p.scale.z};
        v3 gscale = {fma(gm1.x, p.m1.x, gm2.x * p.m2.x), fma(gm1.y, p.m1.y, gm2.y * p.m2.y),
                     fma(gm1.z, p.m1.z, gm2.z * p.m2.z)};
        v3 grot1 = plus(scaled(t1, p.row1.x), scaled(t2, p.row2.x));
        v3 grot2 = plus(scaled(t1, p.row1.y), scaled(t2, p.row2.y));
        v3 grot3 = plus(scaled(t1, p.row1.z), scaled(t2, p.row2.z));
        v3 grow1 = {dot(t1, p.rot1), dot(t1, p.rot2), dot(t1, p.rot3)};
        v3 grow2 = {dot(t2, p.rot1), dot(t2, p.rot2), dot(t2, p.rot3)};

        // Rows of P: fx / z (W1 - slope_x W3) and fy / z (W2 - slope_y W3)
        vf fx = set1(view.fx) * p.inv_z, fy = set1(view.fy) * p.inv_z;
        v3 along1 = rotate(view.rotation, grow1), along2 = rotate(view.rotation, grow2);
        vf gslope_x = -fx * along1.z, gslope_y = -fy * along2.z;
        vf gz = -p.inv_z * (dot(grow1, p.row1) + dot(grow2, p.row2));
        // u = fx x / z + cx
        gslope_x = zero_unless(p.free_x, gslope_x), gslope_y = zero_unless(p.free_y, gslope_y);
        vf gratio_x = fma(set1(view.fx), gu, gslope_x), gratio_y = fma(set1(view.fy), gv, gslope_y);
        v3 gcamera = {gratio_x * p.inv_z, gratio_y * p.inv_z, zero()};
        gcamera.z = gz + moment(9) - p.inv_z * fma(gcamera.x, p.camera.x, gcamera.y * p.camera.y);
        v3 gmean = rotate_back(view.rotation, gcamera);

        const Columns<SUMS> drawn_as((const float*)(args.records + i), n);
        gcolor.x = zero_unless(gt(drawn_as[6], zero()), gcolor.x);
        gcolor.y = zero_unless(gt(drawn_as[7], zero()), gcolor.y);
        gcolor.z = zero_unless(gt(drawn_as[8], zero()), gcolor.z);
        vf inv_distance;
        v3 d = direction(view, p.mean, &inv_distance), gd = {zero(), zero(), zero()};
        Columns<width> sh, gsh;
        if (COEFFICIENTS > 1) rows_to_columns(args.in.sh + width * i, width, n, sh.data[0]);
        harmonics<COEFFICIENTS>(d, [&](int k, vf basis, vf dx, vf dy, vf dz) INLINE_LAMBDA {
            if (k > 0) {
                vf g = zero_unless(p.safe, dot(gcolor, sh.at(3 * k)));
                gd = plus(gd, {g * dx, g * dy, g * dz});
            }
            gsh.set(3 * k, scaled(gcolor, basis));
        });
        if (COEFFICIENTS > 1) gmean = plus(gmean, scaled(plus(gd, scaled(d, -dot(gd, d))), inv_distance));

        if (out.sh) gsh.write(out.sh + width * i, n, *args.add.sh);
        if (out.means) write<3>(out.means + 3 * i, n, *args.add.means, {gmean.x, gmean.y, gmean.z});
        if (out.log_scales) write<3>(out.log_scales + 3 * i, n, *args.add.log_scales, {gscale.x, gscale.y, gscale.z});
        if (out.logit_opacities) write<1>(out.logit_opacities + i, n, *args.add.logit_opacities, {h * p.transparency});
        if (out.screen_offsets) write<2>(out.screen_offsets + 2 * i, n, false, {gu, gv});
        if (out.quats) {
            // R is a quadratic form of the unit quaternion: antisymmetric sums go with w, symmetric ones with x, y, z.
            vf two = set1(2), ax = grot3.y - grot2.z, ay = grot1.z - grot3.x, az = grot2.x - grot1.y;
            vf sx = grot2.z + grot3.y, sy = grot1.z + grot3.x, sz = grot1.y + grot2.x;
            vf gw = two * fma(p.x, ax, fma(p.y, ay, p.z * az));
            vf gx = two * (fma(p.w, ax, fma(p.y, sz, p.z * sy)) - two * p.x * (grot2.y + grot3.z));
            vf gy = two * (fma(p.w, ay, fma(p.x, sz, p.z * sx)) - two * p.y * (grot1.x + grot3.z));
            vf gq = two * (fma(p.w, az, fma(p.x, sy, p.y * sx)) - two * p.z * (grot1.x + grot2.y));
            vf along = fma(gw, p.w, fma(gx, p.x, fma(gy, p.y, gq * p.z)));
            vf s = p.quat_scale;
            write<4>(out.quats + 4 * i, n, *args.add.quats,
                     {s * fnma(along, p.w, gw), s * fnma(along, p.x, gx), s * fnma(along, p.y, gy), s * fnma(along, p.z, gq)});
        }
    }
}

}  // namespace

extern const ProjectKernels project_kernels;
const ProjectKernels project_kernels = {
    {forward<1>, forward<4>, forward<9>, forward<16>},
    {backward<1>, backward<4>, backward<9>, backward<16>},
};

}  // namespace GS4D_ISA
}  // namespace gs4d
