#include "module.h"

#include "constants.h"

namespace gs4d {

static nb::dict constants() {
    nb::dict d;
    d["ALPHA_MIN"] = ALPHA_MIN;
    d["ALPHA_MAX"] = ALPHA_MAX;
    d["T_MIN"] = T_MIN;
    d["EPS2D"] = EPS2D;
    d["EXTENT_MAX"] = EXTENT_MAX;
    d["NEAR"] = NEAR;
    d["FAR"] = FAR;
    d["FOV_MARGIN"] = FOV_MARGIN;
    d["QUAT_MIN"] = QUAT_MIN;
    d["COLOR_MAX"] = COLOR_MAX;
    return d;
}

}  // namespace gs4d

NB_MODULE(_native, m) {
    nanobind::set_leak_warnings(false);  // a picture may outlive the interpreter, with its memory of the forward pass
    m.def("constants", gs4d::constants);
    gs4d::bind_dispatch(m);
    gs4d::bind_pool(m);
    gs4d::bind_raster(m);
    gs4d::bind_field(m);
    gs4d::bind_image(m);
    gs4d::bind_mesh(m);
}
