#include "module.h"

namespace gs4d {

void bind_image(nb::module_&) {}

}  // namespace gs4d
