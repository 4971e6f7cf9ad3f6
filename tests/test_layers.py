"""Imports go down only, heavy networks stay in two boxes, and commands start without them."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "gs4d"

# From the bottom up. A box (module or subpackage) may import boxes of lower rows, and itself.
LAYERS = [
    {"errors", "machine", "outlets", "_native"},
    {"geometry", "native", "ranges"},
    {"gaussians", "camera"},
    {"clip"},
    {"render", "motion", "io"},
    {"synth", "mesh", "options", "splats"},
    {"asset", "hull", "losses", "densify", "metrics"},
    {"prior"},
    {"scene", "asset_record"},
    {"open_asset", "export", "guidance", "consistency", "intake"},
    {"fit", "origins"},
    {"config", "run_folder"},
    {"demo", "score", "report", "deliver", "rerender", "doctor"},
    {"pipeline"},
    {"batch", "view"},
    {"commands", "presets"},
    {"cli"},
    {"__main__"},
]
ROW = {box: row for row, boxes in enumerate(LAYERS) for box in boxes}
HEAVY = {"diffusers", "transformers"}


def package_files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def box_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_modules(source: str, path: Path) -> Iterator[str]:
    """Absolute names of everything that a file of the package imports, at any depth of its code."""
    package = ["gs4d", *path.relative_to(PACKAGE).parent.parts]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            prefix = ".".join([*base, *(node.module or "").split(".")]).strip(".")
            # `from .. import camera` and `from ..camera import Camera` look alike: both readings
            # are given.
            yield from (f"{prefix}.{alias.name}" for alias in node.names)


def offences(source: str, path: Path) -> list[str]:
    """Imports of boxes that are not in a lower row, as "box -> box"."""
    box = box_of(path)
    found = []
    for name in imported_modules(source, path):
        parts = name.split(".")
        if parts[0] != "gs4d" or len(parts) < 2 or parts[1] not in ROW or parts[1] == box:
            continue
        # the package's __init__ has no row: it imports nothing
        if ROW[parts[1]] >= ROW.get(box, 0):
            found.append(f"{path.relative_to(ROOT)}: {box} -> {parts[1]}")
    return found


def test_every_box_has_a_layer() -> None:
    boxes = {box_of(path) for path in package_files()} - {"__init__"}
    assert boxes - set(ROW) == set(), "give the new module a row in LAYERS"


@pytest.mark.parametrize("path", package_files(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_down(path: Path) -> None:
    assert offences(path.read_text(), path) == []


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("geometry.py", "from .camera import Camera"),
        ("camera.py", "from .gaussians import Gaussians"),
        ("io/ply.py", "from ..synth import rose"),
        ("synth/rose.py", "def f():\n    from .. import fit"),
        ("render/cpu.py", "import gs4d.motion.hexplane"),
        ("render/cpu.py", "from gs4d import losses"),
        ("__init__.py", "from .render import render"),
    ],
)
def test_imports_up_or_sideways_are_seen(file: str, source: str) -> None:
    assert len(offences(source, PACKAGE / file)) == 1


def test_imports_within_a_box_and_down_are_allowed() -> None:
    source = (
        "from . import Render\nfrom .constants import EPS2D\n"
        "from ..camera import Camera\nimport torch\n"
    )
    assert offences(source, PACKAGE / "render/reference.py") == []


def test_only_priors_and_scores_know_the_diffusion_libraries() -> None:
    users = {
        box_of(path)
        for path in package_files()
        for name in imported_modules(path.read_text(), path)
        if name.split(".")[0] in HEAVY
    }
    assert users <= {"prior", "metrics"}


@pytest.mark.parametrize("start", ["import gs4d", *(p.name for p in sorted(ROOT.glob("*.py")))])
def test_starting_does_not_load_the_diffusion_libraries(start: str) -> None:
    begin = (
        start
        if start.startswith("import")
        else f"import runpy; runpy.run_path({start!r}, run_name='__main__')"
    )
    code = (
        f"import sys\nsys.argv = [{start!r}, '--help']\n"
        f"try:\n    {begin}\nexcept SystemExit as stop:\n    assert not stop.code, stop.code\n"
        f"print('loaded', sorted({HEAVY} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "loaded []"


@pytest.mark.parametrize("command", ["render", "export"])
def test_what_draws_and_exports_loads_no_trainer_and_no_prior(command: str) -> None:
    trainers = ("fit", "guidance", "hull", "densify", "prior", "intake", "pipeline", "config")
    code = f"""
import sys
from gs4d.cli import _command
try:
    _command({command!r})(["--help"])
except SystemExit:
    pass
print([m for m in sys.modules if m.startswith("gs4d.") and m.split(".")[1] in {trainers!r}])
print("gs4d.render" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-2:] == ["[]", "True"]
