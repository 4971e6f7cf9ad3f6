#include "module.h"

namespace gs4d {

void bind_field(nb::module_&) {}

}  // namespace gs4d
