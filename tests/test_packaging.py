"""What is declared in more than one place agrees, and what must never be installed is named nowhere."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

try:
    import tomllib
except ImportError:  # Python 3.10
    import tomli as tomllib

ROOT = Path(__file__).parent.parent
UNWANTED = re.compile("torch[v]ision", re.IGNORECASE)


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def environment() -> list[Any]:
    return yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]


def name_of(requirement: str) -> str:
    """The normalised name at the head of a requirement."""
    match = re.match(r"[A-Za-z0-9._-]+?(?=[\s<>=!~\[;]|$)", requirement)
    assert match, requirement
    return re.sub(r"[-_.]+", "-", match[0]).lower()


def declared(project: dict[str, Any]) -> list[str]:
    groups = [project["project"]["dependencies"], *project["project"]["optional-dependencies"].values()]
    return [name_of(r) for group in groups for r in group if name_of(r) != project["project"]["name"]]


def test_conda_leaves_packages_and_pins_to_the_project(project: dict[str, Any], environment: list[Any]) -> None:
    (pip,) = (entry["pip"] for entry in environment if isinstance(entry, dict))
    assert pip == ["-c constraints.txt", "-e .[dev]"]
    conda = [entry for entry in environment if isinstance(entry, str)]
    assert {"pip", "cxx-compiler"} <= {name_of(entry) for entry in conda}
    assert not {name_of(entry) for entry in conda} & set(declared(project))
    assert f"python{project['project']['requires-python']}" in conda
    assert "dev" in project["project"]["optional-dependencies"]


def test_constraints_pin_exactly_what_is_declared(project: dict[str, Any]) -> None:
    lines = [line.split("#")[0].strip() for line in (ROOT / "constraints.txt").read_text().splitlines()]
    pins = [line for line in lines if line]
    assert "torch" in map(name_of, pins)
    assert all("==" in pin for pin in pins)
    assert set(map(name_of, pins)) <= set(declared(project))


def test_building_does_not_fetch_torch(project: dict[str, Any]) -> None:
    assert "torch" not in map(name_of, project["build-system"]["requires"])


def test_no_file_asks_for_the_package_that_breaks_cpu_torch() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        paths = [p for p in ROOT.rglob("*") if not set(p.parts) & {".venv", "build", ".git", "node_modules"}]
    else:
        paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    kinds = (".toml", ".txt", ".yml", ".yaml", ".cfg", ".sh", ".lock", ".cmake")
    settings = [p for p in paths if p.is_file() and (p.suffix in kinds or p.name in ("Makefile", "run"))]
    assert ROOT / "pyproject.toml" in settings
    assert ROOT / "environment.yml" in settings
    assert [str(p) for p in settings if UNWANTED.search(p.read_text())] == []
    # Source may speak of weights by that name, but not import it.
    imports = re.compile(rf"^\s*(import|from)\s+{UNWANTED.pattern}|import_module\(.{UNWANTED.pattern}", re.MULTILINE)
    sources = [p for p in paths if p.suffix == ".py" and p.is_file()]
    assert imports.search("    from torch" + "vision import models")
    assert [str(p) for p in sources if imports.search(p.read_text())] == []


def test_ci_fails_on_what_must_not_be_installed() -> None:
    script = (ROOT / ".ci/run").read_text()
    guard = re.search(r"grep -iE '([^']+)' <<<\"\$installed\"", script)
    assert guard, "the guard on pip list is gone from .ci/run"
    refused = re.compile(guard[1], re.IGNORECASE)
    for line in ("torch" + "vision==0.28.0", "nvidia-cublas-cu12==12.8.4.1"):
        assert refused.search(line)
    for line in ("torch==2.13.0+cpu", "numpy==2.4.6", "gs4d==0.1.0"):
        assert not refused.search(line)
    assert script.rstrip().endswith("make test")


def test_check_is_what_ci_runs() -> None:
    makefile = (ROOT / "Makefile").read_text()
    assert re.search(r"^check: lint test$", makefile, re.MULTILINE)
    recipes = dict(re.findall(r"^(lint|test):.*\n((?:\t.*\n)+)", makefile, re.MULTILINE))
    commands = [line.split(".venv/bin/")[1] for line in (recipes["lint"] + recipes["test"]).splitlines()]
    steps = [re.split(" --(?:pythonpath|numprocesses) ", command)[0] for command in commands]
    assert steps == ["ruff check", "ruff format --check", "pyright", "python -m pytest"]
