#include "module.h"

namespace gs4d {

void bind_raster(nb::module_&) {}

}  // namespace gs4d
