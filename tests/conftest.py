"""Every test runs with the annotations checked, and leaves the kernels as it found them."""

import os
from collections.abc import Iterator

# as in train.py: torch's threads must not spin while ours work
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
if workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "0")):  # they share the cores
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))

import pytest
from jaxtyping import install_import_hook

install_import_hook("gs4d", "beartype.beartype")


@pytest.fixture(autouse=True)
def restore_kernels() -> Iterator[None]:
    from gs4d.native import kernels  # only now, under the hook

    isa, threads = kernels.isa(), kernels.num_threads()
    yield
    kernels.set_isa(isa)
    kernels.set_num_threads(threads)
