"""Every test runs with the shapes and types of the annotations checked."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as in train.py: torch's threads must not spin while ours work

from jaxtyping import install_import_hook

install_import_hook("gs4d", "beartype.beartype")
