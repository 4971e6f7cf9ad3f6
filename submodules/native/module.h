// The pieces of the Python module, one per file.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

namespace gs4d {

namespace nb = nanobind;

// Contiguous float32 CPU arrays: what a torch tensor is after .contiguous(), without a copy.
template <class... Shape>
using Array = nb::ndarray<float, nb::device::cpu, nb::c_contig, Shape...>;
template <class... Shape>
using ConstArray = nb::ndarray<const float, nb::device::cpu, nb::c_contig, Shape...>;

void bind_dispatch(nb::module_& m);
void bind_pool(nb::module_& m);
void bind_raster(nb::module_& m);
void bind_field(nb::module_& m);
void bind_image(nb::module_& m);
void bind_mesh(nb::module_& m);

}  // namespace gs4d
