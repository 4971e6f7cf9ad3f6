"""``gs4d doctor``: what this machine has, which priors are there, what they need and allow, and how
to get the rest.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn

from . import __version__
from .errors import UserError
from .native import cores, kernels
from .options import parse
from .prior import open_prior
from .prior.catalogue import FAMILIES, TASKS, family_of
from .prior.models import offline, told_to_stay_offline
from .render import can_draw_on_cuda

GB = 1e9
COUNTED = {"views", "score", "middle"}  # tasks of the families whose parameters were counted
PACKAGES = ("diffusers", "transformers", "accelerate", "huggingface_hub")  # that priors need
EXTRA = "pip install 'gs4d[diffusion]'"


@dataclass(frozen=True)
class DoctorOptions:
    """What to look at beside the machine and the cache of the Hugging Face hub."""

    prior: tuple[str, ...] = ()
    """Priors to open, to see whether they can be used: zero123:FOLDER, syncdreamer:FILE,
    rife:FOLDER, ..."""


def main(arguments: list[str]) -> None:
    """``gs4d doctor [--prior NAME:WHERE ...]``.

    Prints, and asks the network nothing but whether the hub answers.

    Raises:
        UserError: a prior that was named cannot be used.
    """
    what = "Tells what this machine has, which priors are there, and how to get what is missing."
    options = parse(
        DoctorOptions, arguments, default=DoctorOptions(), program="gs4d doctor", description=what
    )
    for line in (*machine(), "", *libraries(), "", *priors(cached())):
        print(line)
    faults = []
    for name in options.prior:
        try:
            prior = open_prior(name, family_of(name).tasks[0])
            print(f"{name} can be used: {_count(_parameters(prior))}")
        except UserError as error:
            faults.append(str(error))
    if faults:
        raise UserError("; ".join(faults))


def machine() -> Iterator[str]:
    """Processor, memory, GPUs, and what draws."""
    memory = ", ".join(f"{size / GB:.0f} GB {what}" for what, size in _memory())
    yield f"gs4d {__version__}, Python {platform.python_version()}, {platform.platform()}"
    yield f"processor    {platform.machine()}, {cores()} cores; memory: {memory or 'unknown'}"
    gpus = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    names = ", ".join(f"{gpu.name} with {gpu.total_memory / GB:.0f} GB" for gpu in gpus)
    yield f"torch        {torch.__version__}; GPU: {names or 'none'}"
    if can_draw_on_cuda():
        yield f"rasterizer   gsplat {_version('gsplat')} on the GPU"
    elif kernels is not None:
        missing = "; for the GPU: pip install 'gs4d[cuda]'" if gpus else ""
        yield f"rasterizer   gs4d's own on the CPU, compiled for {kernels.isa()}{missing}"
    else:
        yield (
            "rasterizer   none: the compiled module is missing; in the project's folder run: "
            "pip install -e ."
        )


def libraries() -> Iterator[str]:
    """The packages that priors need, and whether more can be had."""
    found = {name: _version(name) for name in PACKAGES}
    yield "packages     " + ", ".join(
        f"{name} {number or 'missing'}" for name, number in found.items()
    )
    if not all(found.values()):
        yield f"             priors with networks need them; run: {EXTRA}"
    if told_to_stay_offline():
        yield "hub          not asked: HF_HUB_OFFLINE is set"
    else:
        yield f"hub          {'cannot be reached from here' if offline() else 'can be reached'}"


@dataclass(frozen=True)
class Cached:
    """A model in the cache of the hub."""

    folder: Path
    size: int
    """Bytes."""
    whole: bool
    """Whether no download was cut."""


def cached() -> dict[str, Cached]:
    """What the cache of the hub holds, by id; the network is not asked."""
    if find_spec("huggingface_hub") is None:
        return {}
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        models = [repo for repo in scan_cache_dir().repos if repo.repo_type == "model"]
    except CacheNotFound:
        return {}
    return {
        repo.repo_id: Cached(
            repo.repo_path, repo.size_on_disk, not any(repo.repo_path.glob("blobs/*.incomplete"))
        )
        for repo in models
    }


def priors(there: dict[str, Cached]) -> Iterator[str]:
    """Every family of the catalogue.

    What it does, needs and allows, and where it is or how to get it.
    """
    yield (
        "priors (memory is that of the weights; pictures and what the networks compute come on top)"
    )
    for name, family in FAMILIES.items():
        yield f"  {name:16} {family.title}: {', '.join(TASKS[task] for task in family.tasks)}"
        yield f"  {'':16} licence: {family.licence}"
        if family.parameters == 0:
            yield f"  {'':16} there: it needs no weights"
            continue
        about = "" if COUNTED & set(family.tasks) else "about "
        known = family.parameters
        needs = "what the model says" if known is None else about + _count(known)
        yield f"  {'':16} needs {needs}"
        if family.file is not None and family.file.is_file():
            yield f"  {'':16} there: {name}, which comes with gs4d"
            continue
        found = [id for id in family.hub if id in there]
        for id in found:
            state = "there" if there[id].whole else "the download was cut, fetch it again"
            size = f"{there[id].size / GB:.2f} GB"
            yield f"  {'':16} {state}: {name}:{id} ({size} in {there[id].folder})"
        if not found:
            yield f"  {'':16} missing: {family.how_to_get(name)}"


def _count(parameters: int) -> str:
    full, half = 4 * parameters / GB, 2 * parameters / GB
    return (
        f"{parameters / 1e6:.0f} million parameters, {half:.2f} GB in half floats (GPU), "
        f"{full:.2f} GB in floats (CPU)"
    )


def _parameters(prior: Any) -> int:
    parts = vars(getattr(prior, "networks", prior)).values()
    return sum(
        p.numel() for part in parts if isinstance(part, nn.Module) for p in part.parameters()
    )


def _memory() -> Iterator[tuple[str, int]]:
    for what, pages in (("in all", "SC_PHYS_PAGES"), ("free", "SC_AVPHYS_PAGES")):
        if hasattr(os, "sysconf") and pages in os.sysconf_names:
            yield what, os.sysconf(pages) * os.sysconf("SC_PAGE_SIZE")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
