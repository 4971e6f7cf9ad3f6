// Which instruction set runs. Every *_kernels.cpp is compiled once per instruction set into namespace gs4d::<isa> and
// exports one constant table of function pointers; host code declares the tables and picks one:
//
//     GS4D_DECLARE_KERNELS(RasterKernels, raster_kernels)   // at namespace scope, inside namespace gs4d
//     const RasterKernels& k = GS4D_KERNELS(raster_kernels);
//
// Kernel objects must define no weak symbol (inline functions and templates of shared or standard headers that were not
// inlined): the linker keeps one copy of those for all instruction sets, perhaps the one this machine cannot run. So a
// kernel file includes only C headers, simd.h and headers of plain structs, and marks its own functions `static`.
#pragma once

namespace gs4d {

enum class Isa { portable, avx2, avx512 };

// The instruction set in use: the best one this machine runs, or the one that GS4D_ISA or _native.set_isa asked for.
Isa isa();

#ifdef GS4D_HAS_AVX512
#define GS4D_DECLARE_KERNELS(type, name)  \
    namespace portable {                  \
    extern const type name;               \
    }                                     \
    namespace avx2 {                      \
    extern const type name;               \
    }                                     \
    namespace avx512 {                    \
    extern const type name;               \
    }
#define GS4D_KERNELS(name) \
    (gs4d::isa() == Isa::avx512 ? avx512::name : gs4d::isa() == Isa::avx2 ? avx2::name : portable::name)
#else
#define GS4D_DECLARE_KERNELS(type, name) \
    namespace portable {                 \
    extern const type name;              \
    }
#define GS4D_KERNELS(name) portable::name
#endif

}  // namespace gs4d
