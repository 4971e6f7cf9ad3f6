"""The compiled kernels, or None where the package was installed without them.

Callers then take their torch path.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

kernels: Any = import_module("gs4d._native") if find_spec("gs4d._native") else None


def can_run(*tensors: Tensor) -> bool:
    """Whether the kernels are there and take these tensors: float32 on the CPU."""
    return kernels is not None and all(
        t.device.type == "cpu" and t.dtype == torch.float32 for t in tensors
    )


def cores() -> int:
    """CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def set_threads(threads: int) -> None:
    """Uses ``threads`` CPU threads, 0 for all cores of this process, in torch and the kernels."""
    count = threads or cores()
    torch.set_num_threads(count)
    if kernels is not None:
        kernels.set_num_threads(count)


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Uses ``threads`` CPU threads in torch, 0 for all cores; the kernels keep theirs."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or cores())
    try:
        yield
    finally:
        torch.set_num_threads(before)
