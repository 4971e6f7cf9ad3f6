"""This process and what it runs on: peak memory, versions."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import version

from . import __version__


def peak_memory_mb() -> int:
    """Most memory that this process has held so far, MB."""
    if sys.platform == "win32":
        return round(_windows_peak_bytes() / 1e6)
    import resource  # absent on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # bytes on macOS, KiB elsewhere
    return round(peak / 1e6 if sys.platform == "darwin" else peak / 1e3)


def _windows_peak_bytes() -> int:
    """``PeakWorkingSetSize`` of GetProcessMemoryInfo, a structure of two 32-bit numbers and eight
    sizes; 0 if it fails.
    """
    assert sys.platform == "win32"
    import ctypes
    from ctypes import wintypes

    sizes = (
        "PeakWorkingSetSize WorkingSetSize QuotaPeakPagedPoolUsage QuotaPagedPoolUsage "
        "QuotaPeakNonPagedPoolUsage"
    )
    sizes += " QuotaNonPagedPoolUsage PagefileUsage PeakPagefileUsage"

    class Counters(ctypes.Structure):
        _fields_ = (
            ("cb", wintypes.DWORD),
            ("PageFaultCount", wintypes.DWORD),
            *((name, ctypes.c_size_t) for name in sizes.split()),
        )

    counters = Counters(cb=ctypes.sizeof(Counters))
    kernel = ctypes.WinDLL("kernel32")
    kernel.GetCurrentProcess.restype = wintypes.HANDLE
    kernel.K32GetProcessMemoryInfo.argtypes = (
        wintypes.HANDLE,
        ctypes.POINTER(Counters),
        wintypes.DWORD,
    )
    found = kernel.K32GetProcessMemoryInfo(
        kernel.GetCurrentProcess(), ctypes.byref(counters), counters.cb
    )
    return counters.PeakWorkingSetSize if found else 0


def versions() -> dict[str, str]:
    """Versions of gs4d, Python and the libraries, on which a result depends."""
    return {
        "gs4d": __version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        **{name: version(name) for name in ("torch", "numpy", "scipy", "pillow", "safetensors")},
        **{name: version(name) for name in ("diffusers", "transformers") if name in sys.modules},
    }
