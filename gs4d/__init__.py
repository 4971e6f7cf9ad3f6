"""gs4d: a video of one object, an image or a sentence becomes an animated 3D Gaussian splat."""

import os

# Threads of torch's that spin while they wait starve ours, and every other program. It is read when
# torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

__version__ = "0.1.0"
