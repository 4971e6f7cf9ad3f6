// A vector of W floats (vf), of W int32 (vi) and a mask (vm), the same names on every instruction set: AVX-512 (W = 16),
// AVX2 (W = 8), and pairs of four-lane GCC/Clang vectors (W = 8), which become SSE2 or NEON. Comparisons with a NaN are
// false. Arithmetic operators (+ - * / and unary -) work on vf, and + - on vi.
#pragma once

#include <stdint.h>
#include <string.h>

#if defined(GS4D_ISA_avx512) || defined(GS4D_ISA_avx2)
#include <immintrin.h>
#endif

#ifndef GS4D_ISA
#error "kernel files are compiled once per instruction set, with GS4D_ISA set to its name"
#endif

#define INLINE static inline __attribute__((always_inline))
#define INLINE_LAMBDA __attribute__((always_inline))
#define NOINLINE static __attribute__((noinline, unused))  // a stage that a profiler should show

namespace gs4d {
namespace GS4D_ISA {

#if defined(GS4D_ISA_avx512)

constexpr int W = 16;
using vf = __m512;
using vi = __v16si;
using vm = __mmask16;

INLINE vf set1(float x) { return _mm512_set1_ps(x); }
INLINE vi set1i(int32_t x) { return (vi)_mm512_set1_epi32(x); }
INLINE vf load(const float* p) { return _mm512_loadu_ps(p); }
INLINE vi loadi(const int32_t* p) { return (vi)_mm512_loadu_si512(p); }
INLINE void store(float* p, vf a) { _mm512_storeu_ps(p, a); }
INLINE void storei(int32_t* p, vi a) { _mm512_storeu_si512(p, (__m512i)a); }
INLINE vf fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
INLINE vf fnma(vf a, vf b, vf c) { return _mm512_fnmadd_ps(a, b, c); }
INLINE vf min(vf a, vf b) { return _mm512_min_ps(a, b); }
INLINE vf max(vf a, vf b) { return _mm512_max_ps(a, b); }
INLINE vf abs(vf a) { return _mm512_abs_ps(a); }
INLINE vf sqrt(vf a) { return _mm512_sqrt_ps(a); }
INLINE vf floor(vf a) { return _mm512_roundscale_ps(a, 0x09); }
INLINE vf ceil(vf a) { return _mm512_roundscale_ps(a, 0x0a); }
INLINE vf rcp_rough(vf a) { return _mm512_rcp14_ps(a); }
INLINE vf rsqrt_rough(vf a) { return _mm512_rsqrt14_ps(a); }
INLINE vi to_int(vf a) { return (vi)_mm512_cvttps_epi32(a); }
INLINE vf to_float(vi a) { return _mm512_cvtepi32_ps((__m512i)a); }
INLINE vi as_int(vf a) { return (vi)_mm512_castps_si512(a); }
INLINE vf as_float(vi a) { return _mm512_castsi512_ps((__m512i)a); }
template <int N>
INLINE vi shift_left(vi a) { return (vi)_mm512_slli_epi32((__m512i)a, N); }
template <int N>
INLINE vi shift_right(vi a) { return (vi)_mm512_srli_epi32((__m512i)a, N); }
INLINE vi and_int(vi a, vi b) { return (vi)_mm512_and_si512((__m512i)a, (__m512i)b); }
INLINE vi or_int(vi a, vi b) { return (vi)_mm512_or_si512((__m512i)a, (__m512i)b); }
INLINE vm lt(vf a, vf b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
INLINE vm le(vf a, vf b) { return _mm512_cmp_ps_mask(a, b, _CMP_LE_OQ); }
INLINE vm gt(vf a, vf b) { return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ); }
INLINE vm ge(vf a, vf b) { return _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ); }
INLINE vm gt_where(vm m, vf a, vf b) { return _mm512_mask_cmp_ps_mask(m, a, b, _CMP_GT_OQ); }
INLINE vf negative_where(vm m, vf a) { return _mm512_mask_or_ps(a, m, a, _mm512_set1_ps(-0.0f)); }
INLINE uint32_t sign_bits(vf a) { return _mm512_movepi32_mask((__m512i)a); }
INLINE vm both(vm a, vm b) { return _kand_mask16(a, b); }
INLINE vm either(vm a, vm b) { return _kor_mask16(a, b); }
INLINE vm but_not(vm a, vm b) { return _kandn_mask16(b, a); }  // a and not b
INLINE vf select(vm m, vf a, vf b) { return _mm512_mask_mov_ps(b, m, a); }
INLINE vf zero_unless(vm m, vf a) { return _mm512_maskz_mov_ps(m, a); }
INLINE uint32_t to_bits(vm m) { return m; }  // lane i is bit i
INLINE vm from_bits(uint32_t bits) { return (vm)bits; }
INLINE vf load_first(const float* p, int n) { return _mm512_maskz_loadu_ps((vm)((1u << n) - 1), p); }
INLINE void store_first(float* p, int n, vf a) { _mm512_mask_storeu_ps(p, (vm)((1u << n) - 1), a); }
INLINE float sum(vf a) { return _mm512_reduce_add_ps(a); }

#elif defined(GS4D_ISA_avx2)

constexpr int W = 8;
using vf = __m256;
using vi = __v8si;
struct vm {
    __m256 v;
};

INLINE vf set1(float x) { return _mm256_set1_ps(x); }
INLINE vi set1i(int32_t x) { return (vi)_mm256_set1_epi32(x); }
INLINE vf load(const float* p) { return _mm256_loadu_ps(p); }
INLINE vi loadi(const int32_t* p) { return (vi)_mm256_loadu_si256((const __m256i*)p); }
INLINE void store(float* p, vf a) { _mm256_storeu_ps(p, a); }
INLINE void storei(int32_t* p, vi a) { _mm256_storeu_si256((__m256i*)p, (__m256i)a); }
INLINE vf fma(vf a, vf b, vf c) { return _mm256_fmadd_ps(a, b, c); }
INLINE vf fnma(vf a, vf b, vf c) { return _mm256_fnmadd_ps(a, b, c); }
INLINE vf min(vf a, vf b) { return _mm256_min_ps(a, b); }
INLINE vf max(vf a, vf b) { return _mm256_max_ps(a, b); }
INLINE vf abs(vf a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
INLINE vf sqrt(vf a) { return _mm256_sqrt_ps(a); }
INLINE vf floor(vf a) { return _mm256_floor_ps(a); }
INLINE vf ceil(vf a) { return _mm256_ceil_ps(a); }
INLINE vf rcp_rough(vf a) { return _mm256_rcp_ps(a); }
INLINE vf rsqrt_rough(vf a) { return _mm256_rsqrt_ps(a); }
INLINE vi to_int(vf a) { return (vi)_mm256_cvttps_epi32(a); }
INLINE vf to_float(vi a) { return _mm256_cvtepi32_ps((__m256i)a); }
INLINE vi as_int(vf a) { return (vi)_mm256_castps_si256(a); }
INLINE vf as_float(vi a) { return _mm256_castsi256_ps((__m256i)a); }
template <int N>
INLINE vi shift_left(vi a) { return (vi)_mm256_slli_epi32((__m256i)a, N); }
template <int N>
INLINE vi shift_right(vi a) { return (vi)_mm256_srli_epi32((__m256i)a, N); }
INLINE vi and_int(vi a, vi b) { return (vi)_mm256_and_si256((__m256i)a, (__m256i)b); }
INLINE vi or_int(vi a, vi b) { return (vi)_mm256_or_si256((__m256i)a, (__m256i)b); }
INLINE vm lt(vf a, vf b) { return {_mm256_cmp_ps(a, b, _CMP_LT_OQ)}; }
INLINE vm le(vf a, vf b) { return {_mm256_cmp_ps(a, b, _CMP_LE_OQ)}; }
INLINE vm gt(vf a, vf b) { return {_mm256_cmp_ps(a, b, _CMP_GT_OQ)}; }
INLINE vm ge(vf a, vf b) { return {_mm256_cmp_ps(a, b, _CMP_GE_OQ)}; }
INLINE vm gt_where(vm m, vf a, vf b) { return {_mm256_and_ps(m.v, _mm256_cmp_ps(a, b, _CMP_GT_OQ))}; }
INLINE vf negative_where(vm m, vf a) { return _mm256_or_ps(a, _mm256_and_ps(m.v, _mm256_set1_ps(-0.0f))); }
INLINE uint32_t sign_bits(vf a) { return (uint32_t)_mm256_movemask_ps(a); }
INLINE vm both(vm a, vm b) { return {_mm256_and_ps(a.v, b.v)}; }
INLINE vm either(vm a, vm b) { return {_mm256_or_ps(a.v, b.v)}; }
INLINE vm but_not(vm a, vm b) { return {_mm256_andnot_ps(b.v, a.v)}; }
INLINE vf select(vm m, vf a, vf b) { return _mm256_blendv_ps(b, a, m.v); }
INLINE vf zero_unless(vm m, vf a) { return _mm256_and_ps(m.v, a); }
INLINE uint32_t to_bits(vm m) { return (uint32_t)_mm256_movemask_ps(m.v); }
INLINE vm from_bits(uint32_t bits) {
    __m256i lane = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    return {_mm256_castsi256_ps(_mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32((int32_t)bits), lane), lane))};
}
INLINE __m256i first_lanes(int n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
INLINE vf load_first(const float* p, int n) { return _mm256_maskload_ps(p, first_lanes(n)); }
INLINE void store_first(float* p, int n, vf a) { _mm256_maskstore_ps(p, first_lanes(n), a); }
INLINE float sum(vf a) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_shuffle_ps(s, s, 1)));
}

#else

constexpr int W = 8;
typedef float v4f __attribute__((vector_size(16)));
typedef int32_t v4i __attribute__((vector_size(16)));
struct vf {
    v4f a, b;
};
struct vi {
    v4i a, b;
};
struct vm {
    v4i a, b;
};

INLINE vf operator+(vf x, vf y) { return {x.a + y.a, x.b + y.b}; }
INLINE vf operator-(vf x, vf y) { return {x.a - y.a, x.b - y.b}; }
INLINE vf operator*(vf x, vf y) { return {x.a * y.a, x.b * y.b}; }
INLINE vf operator/(vf x, vf y) { return {x.a / y.a, x.b / y.b}; }
INLINE vf operator-(vf x) { return {-x.a, -x.b}; }
INLINE vi operator+(vi x, vi y) { return {x.a + y.a, x.b + y.b}; }
INLINE vi operator-(vi x, vi y) { return {x.a - y.a, x.b - y.b}; }
INLINE vf& operator+=(vf& x, vf y) { return x = x + y; }
INLINE vf& operator-=(vf& x, vf y) { return x = x - y; }
INLINE vf& operator*=(vf& x, vf y) { return x = x * y; }
INLINE vf set1(float x) { return {v4f{x, x, x, x}, v4f{x, x, x, x}}; }
INLINE vi set1i(int32_t x) { return {v4i{x, x, x, x}, v4i{x, x, x, x}}; }
INLINE vf load(const float* p) {
    vf r;
    memcpy(&r, p, sizeof r);
    return r;
}
INLINE vi loadi(const int32_t* p) {
    vi r;
    memcpy(&r, p, sizeof r);
    return r;
}
INLINE void store(float* p, vf a) { memcpy(p, &a, sizeof a); }
INLINE void storei(int32_t* p, vi a) { memcpy(p, &a, sizeof a); }
INLINE vf fma(vf x, vf y, vf z) { return x * y + z; }  // contracted where the target has it
INLINE vf fnma(vf x, vf y, vf z) { return z - x * y; }
INLINE vi as_int(vf x) { return {(v4i)x.a, (v4i)x.b}; }
INLINE vf as_float(vi x) { return {(v4f)x.a, (v4f)x.b}; }
template <int N>
INLINE vi shift_left(vi x) { return {x.a << N, x.b << N}; }
template <int N>
INLINE vi shift_right(vi x) {
    typedef uint32_t v4u __attribute__((vector_size(16)));
    return {(v4i)((v4u)x.a >> N), (v4i)((v4u)x.b >> N)};
}
INLINE vi and_int(vi x, vi y) { return {x.a & y.a, x.b & y.b}; }
INLINE vi or_int(vi x, vi y) { return {x.a | y.a, x.b | y.b}; }
INLINE vm lt(vf x, vf y) { return {x.a < y.a, x.b < y.b}; }
INLINE vm le(vf x, vf y) { return {x.a <= y.a, x.b <= y.b}; }
INLINE vm gt(vf x, vf y) { return {x.a > y.a, x.b > y.b}; }
INLINE vm ge(vf x, vf y) { return {x.a >= y.a, x.b >= y.b}; }
INLINE vm both(vm x, vm y) { return {x.a & y.a, x.b & y.b}; }
INLINE vm gt_where(vm m, vf x, vf y) { return both(m, gt(x, y)); }
INLINE vf negative_where(vm m, vf x) {
    v4i sign = set1i(INT32_MIN).a;
    return {(v4f)((v4i)x.a | (m.a & sign)), (v4f)((v4i)x.b | (m.b & sign))};
}
INLINE vm either(vm x, vm y) { return {x.a | y.a, x.b | y.b}; }
INLINE vm but_not(vm x, vm y) { return {x.a & ~y.a, x.b & ~y.b}; }
INLINE vf select(vm m, vf x, vf y) {
    return {(v4f)((m.a & (v4i)x.a) | (~m.a & (v4i)y.a)), (v4f)((m.b & (v4i)x.b) | (~m.b & (v4i)y.b))};
}
INLINE vf zero_unless(vm m, vf x) { return {(v4f)(m.a & (v4i)x.a), (v4f)(m.b & (v4i)x.b)}; }
INLINE vf min(vf x, vf y) { return select(lt(x, y), x, y); }  // the second one where either is a NaN, as on x86
INLINE vf max(vf x, vf y) { return select(gt(x, y), x, y); }
INLINE vf abs(vf x) { return as_float(and_int(as_int(x), set1i(0x7fffffff))); }
INLINE vf sqrt(vf x) {
    vf r;
    for (int i = 0; i < 4; ++i) r.a[i] = __builtin_sqrtf(x.a[i]), r.b[i] = __builtin_sqrtf(x.b[i]);
    return r;
}
INLINE vf rcp_rough(vf x) { return set1(1) / x; }
INLINE vf rsqrt_rough(vf x) { return set1(1) / sqrt(x); }
INLINE vi to_int(vf x) { return {__builtin_convertvector(x.a, v4i), __builtin_convertvector(x.b, v4i)}; }
INLINE vf to_float(vi x) { return {__builtin_convertvector(x.a, v4f), __builtin_convertvector(x.b, v4f)}; }
INLINE vf floor(vf x) {  // beyond 2^23 a float has no fraction
    vf whole = to_float(to_int(x));
    return select(lt(abs(x), set1(8388608.0f)), whole - zero_unless(gt(whole, x), set1(1)), x);
}
INLINE vf ceil(vf x) { return -floor(-x); }
INLINE uint32_t to_bits(vm m) {
    v4i bits = (m.a & v4i{1, 2, 4, 8}) | (m.b & v4i{16, 32, 64, 128});
    return uint32_t(bits[0] | bits[1] | bits[2] | bits[3]);
}
INLINE uint32_t sign_bits(vf x) { return to_bits({(v4i)x.a < 0, (v4i)x.b < 0}); }
INLINE vm from_bits(uint32_t bits) {
    v4i low = {1, 2, 4, 8}, high = {16, 32, 64, 128}, all = set1i((int32_t)bits).a;
    return {(all & low) == low, (all & high) == high};
}
INLINE vf load_first(const float* p, int n) {
    float t[8] = {0, 0, 0, 0, 0, 0, 0, 0};
    for (int i = 0; i < n; ++i) t[i] = p[i];
    return load(t);
}
INLINE void store_first(float* p, int n, vf x) {
    float t[8];
    store(t, x);
    for (int i = 0; i < n; ++i) p[i] = t[i];
}
INLINE float sum(vf x) {
    v4f s = x.a + x.b;
    return (s[0] + s[2]) + (s[1] + s[3]);
}

#endif

INLINE bool any(vm m) { return to_bits(m) != 0; }
INLINE vf zero() { return set1(0); }
INLINE vf clamp(vf x, vf low, vf high) { return min(max(x, low), high); }
INLINE vf iota() {
    static const float lanes[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    return load(lanes);
}

// 1 / x to about one unit in the last place.
INLINE vf rcp(vf x) {
    vf r = rcp_rough(x);
    return fma(fnma(x, r, set1(1)), r, r);
}

// Adds the sums of the lanes of v[0] .. v[9] to p[SUM_LANE[0]] .. p[SUM_LANE[9]]; p has 16 floats. A tree: every step adds
// the halves of two vectors and lays the results side by side.
#if defined(GS4D_ISA_avx512)
static constexpr int SUM_LANE[10] = {0, 4, 8, 12, 1, 5, 9, 13, 2, 6};
INLINE void add_sums(float* p, const vf* v) {
    auto halves = [](vf a, vf b) INLINE_LAMBDA {
        return _mm512_mask_blend_ps(0xff00, a, b) + _mm512_shuffle_f32x4(a, b, _MM_SHUFFLE(1, 0, 3, 2));
    };
    auto quarters = [](vf a, vf b) INLINE_LAMBDA {
        return _mm512_shuffle_f32x4(a, b, _MM_SHUFFLE(2, 0, 2, 0)) + _mm512_shuffle_f32x4(a, b, _MM_SHUFFLE(3, 1, 3, 1));
    };
    auto pairs = [](vf a, vf b) INLINE_LAMBDA {
        return _mm512_mask_blend_ps(0xcccc, a, b) + _mm512_shuffle_ps(a, b, _MM_SHUFFLE(1, 0, 3, 2));
    };
    vf a = halves(v[0], v[1]), b = halves(v[2], v[3]), c = halves(v[4], v[5]), d = halves(v[6], v[7]), e = halves(v[8], v[9]);
    a = pairs(quarters(a, b), quarters(c, d)), b = quarters(e, e), b = pairs(b, b);
    store(p, load(p) + (_mm512_shuffle_ps(a, b, _MM_SHUFFLE(2, 0, 2, 0)) + _mm512_shuffle_ps(a, b, _MM_SHUFFLE(3, 1, 3, 1))));
}
#elif defined(GS4D_ISA_avx2)
static constexpr int SUM_LANE[10] = {0, 4, 1, 5, 2, 6, 3, 7, 8, 12};
INLINE void add_sums(float* p, const vf* v) {
    auto halves = [](vf a, vf b) INLINE_LAMBDA { return _mm256_blend_ps(a, b, 0xf0) + _mm256_permute2f128_ps(a, b, 0x21); };
    auto pairs = [](vf a, vf b) INLINE_LAMBDA {
        return _mm256_blend_ps(a, b, 0xcc) + _mm256_shuffle_ps(a, b, _MM_SHUFFLE(1, 0, 3, 2));
    };
    auto singles = [](vf a, vf b) INLINE_LAMBDA {
        return _mm256_shuffle_ps(a, b, _MM_SHUFFLE(2, 0, 2, 0)) + _mm256_shuffle_ps(a, b, _MM_SHUFFLE(3, 1, 3, 1));
    };
    vf a = halves(v[0], v[1]), b = halves(v[2], v[3]), c = halves(v[4], v[5]), d = halves(v[6], v[7]), e = halves(v[8], v[9]);
    a = singles(pairs(a, b), pairs(c, d)), e = pairs(e, e), e = singles(e, e);
    store(p, load(p) + a), store(p + 8, load(p + 8) + e);
}
#else
static constexpr int SUM_LANE[10] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9};
INLINE void add_sums(float* p, const vf* v) {
    for (int k = 0; k < 10; ++k) p[k] += sum(v[k]);
}
#endif

// Between n <= W rows of `width` floats and `width` vectors of one float per row; lanes beyond n become zero.
NOINLINE void rows_to_columns(const float* rows, int64_t width, int n, float* columns) {
    for (int64_t f = 0; n < W && f < width; ++f) store(columns + f * W, zero());
    for (int lane = 0; lane < n; ++lane, rows += width)
        for (int64_t f = 0; f < width; ++f) columns[f * W + lane] = rows[f];
}
NOINLINE void columns_to_rows(const float* columns, int64_t width, int n, bool add, float* rows) {
    for (int lane = 0; lane < n; ++lane, rows += width)
        for (int64_t f = 0; f < width; ++f) rows[f] = columns[f * W + lane] + (add ? rows[f] : 0);
}

// 2^x, relative error below 2e-7; x below -126 gives 2^-126, above 127 gives 2^127.
INLINE vf exp2(vf x) {
    x = clamp(x, set1(-126), set1(127));
    vf whole = floor(x + set1(0.5f)), f = x - whole;
    // Minimax on [-0.5, 0.5].
    vf p = fma(f, set1(1.33335581e-3f), set1(9.61812911e-3f));
    p = fma(f, p, set1(5.55041087e-2f));
    p = fma(f, p, set1(2.40226507e-1f));
    p = fma(f, p, set1(6.93147181e-1f));
    p = fma(f, p, set1(1));
    return p * as_float(shift_left<23>(to_int(whole) + set1i(127)));
}

// e^x, as exp2.
INLINE vf exp(vf x) { return exp2(x * set1(1.44269504f)); }

// Natural logarithm of a positive normal float, absolute error below 2e-7 near 1 and relative 2e-7 elsewhere.
INLINE vf log(vf x) {
    vi bits = as_int(x) - set1i(0x3f3504f3);  // puts the mantissa into [sqrt(1/2), sqrt(2))
    vi exponent = shift_right<23>(bits + set1i(128 << 23)) - set1i(128);
    vf m = as_float(and_int(bits, set1i(0x007fffff)) + set1i(0x3f3504f3));
    vf s = (m - set1(1)) / (m + set1(1)), q = s * s;
    vf p = fma(q, set1(0.2222222f), set1(0.28571429f));
    p = fma(q, p, set1(0.4f));
    p = fma(q, p, set1(0.66666667f));
    p = fma(q * s, p, s + s);
    return fma(to_float(exponent), set1(0.69314718f), p);
}

}  // namespace GS4D_ISA
}  // namespace gs4d
