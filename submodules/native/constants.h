// The numbers that decide which Gaussian touches which pixel. They equal gsplat 1.5.3's, so that a model fitted here draws
// the same on CUDA. gs4d/render/constants.py holds the same values for the plain-torch twin; a test asserts that they agree.
#pragma once

namespace gs4d {

constexpr float ALPHA_MIN = 1.0f / 255.0f;  // a blend below this is skipped
constexpr float ALPHA_MAX = 0.999f;         // alpha is clamped here, and has no gradient beyond
constexpr float T_MIN = 1e-4f;              // the Gaussian that would bring transmittance to this or below ends the pixel
constexpr float EPS2D = 0.3f;               // pixels^2 added to the screen covariance
constexpr float EXTENT_MAX = 3.33f;         // half size of the drawn box in standard deviations, at most
constexpr float NEAR = 0.01f;               // camera-space depth below which a Gaussian is culled
constexpr float FAR = 1e10f;                // and above which
constexpr float FOV_MARGIN = 0.3f;          // the projection's Jacobian is clamped this far (in tan(fov / 2)) outside the image
// Ours: what gsplat lets through.
constexpr float QUAT_MIN = 1e-19f;          // a quaternion whose largest component is at most this is the identity
constexpr float COLOR_MAX = 1e32f;          // a colour beyond this is none, and its Gaussian is not drawn

}  // namespace gs4d
