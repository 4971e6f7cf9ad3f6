"""What is declared in more than one place agrees; what must never be installed is not named."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from gs4d import __version__
from gs4d.cli import COMMANDS, as_typed, main
from gs4d.config import Config, load_config
from gs4d.errors import UserError
from gs4d.options import PRESETS, about_presets, preset_names
from gs4d.prior.train.loop import TrainOptions

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
    groups = [
        project["project"]["dependencies"],
        *project["project"]["optional-dependencies"].values(),
    ]
    return [
        name_of(r) for group in groups for r in group if name_of(r) != project["project"]["name"]
    ]


def built(project: dict[str, Any], key: str) -> list[str]:
    """Files that git keeps and that a build with this list of patterns takes."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\0")
    patterns = project["tool"]["scikit-build"][key.split(".")[0]].get(key.split(".")[1], [])
    return [
        name
        for name in listed
        if name and not any(Path(name).match(pattern) for pattern in patterns)
    ]


def python(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )


def test_conda_leaves_packages_and_pins_to_the_project(
    project: dict[str, Any], environment: list[Any]
) -> None:
    (pip,) = (entry["pip"] for entry in environment if isinstance(entry, dict))
    assert pip == ["-c constraints.txt", "-e ."]
    conda = [entry for entry in environment if isinstance(entry, str)]
    assert {"pip", "cxx-compiler"} <= {name_of(entry) for entry in conda}
    assert not {name_of(entry) for entry in conda} & set(declared(project))
    assert f"python{project['project']['requires-python']}" in conda
    assert "dev" in project["project"]["optional-dependencies"]


def test_constraints_pin_exactly_what_is_declared(project: dict[str, Any]) -> None:
    lines = [
        line.split("#")[0].strip() for line in (ROOT / "constraints.txt").read_text().splitlines()
    ]
    pins = [line for line in lines if line]
    assert "torch" in map(name_of, pins)
    assert all("==" in pin for pin in pins)
    assert set(map(name_of, pins)) <= set(declared(project))


def test_building_does_not_fetch_torch(project: dict[str, Any]) -> None:
    assert "torch" not in map(name_of, project["build-system"]["requires"])


def test_no_file_asks_for_the_package_that_breaks_cpu_torch() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        paths = [
            p
            for p in ROOT.rglob("*")
            if not set(p.parts) & {".venv", "build", ".git", "node_modules"}
        ]
    else:
        paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    kinds = (".toml", ".txt", ".yml", ".yaml", ".cfg", ".sh", ".lock", ".cmake")
    settings = [
        p for p in paths if p.is_file() and (p.suffix in kinds or p.name in ("Makefile", "run"))
    ]
    assert ROOT / "pyproject.toml" in settings
    assert ROOT / "environment.yml" in settings
    assert [str(p) for p in settings if UNWANTED.search(p.read_text())] == []
    # Source may speak of weights by that name, but not import it.
    imports = re.compile(
        rf"^\s*(import|from)\s+{UNWANTED.pattern}|import_module\(.{UNWANTED.pattern}", re.MULTILINE
    )
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
    commands = [
        line.split(".venv/bin/")[1] for line in (recipes["lint"] + recipes["test"]).splitlines()
    ]
    steps = [re.split(" --(?:pythonpath|numprocesses) ", command)[0] for command in commands]
    assert steps == ["ruff check", "ruff format --check", "pyright", "python -m pytest"]


def test_the_core_is_installed_first_and_the_tools_of_the_tests_only_for_them() -> None:
    makefile = (ROOT / "Makefile").read_text()
    needs = dict(
        re.findall(r"^(demo|test|lint|check-viewer|oracles):(.*)$", makefile, re.MULTILINE)
    )
    assert needs.pop("demo").split() == [".venv/.installed"]
    assert all(".venv/.installed-dev" in line.split() for line in needs.values())
    script = (ROOT / "tools/install.sh").read_text()
    assert "    install -e .\n" in script
    assert "[dev]" not in script + makefile
    assert "make .venv/.installed-dev" in (ROOT / ".ci/run").read_text()


def test_an_extra_is_installed_by_its_packages(project: dict[str, Any]) -> None:
    """The program in tools/install.sh that lists them, run on the metadata of this installation."""
    script = (ROOT / "tools/install.sh").read_text()
    program = re.search(r"<<'EOF'\n(.*?)\nEOF\n", script, re.DOTALL)
    assert program
    done = python("-c", program[1], "mesh", cwd=ROOT)
    assert done.stdout.split() == project["project"]["optional-dependencies"]["mesh"], done.stderr
    assert (
        "there is no extra mehs; there are: cuda,"
        in python("-c", program[1], "mehs", cwd=ROOT).stderr
    )


def test_version_and_licences_have_one_home(project: dict[str, Any]) -> None:
    assert project["project"]["dynamic"] == ["version"]
    place = project["tool"]["scikit-build"]["metadata"]["version"]["input"]
    assert f'__version__ = "{__version__}"' in (ROOT / place).read_text().splitlines()
    assert all((ROOT / name).is_file() for name in project["project"]["license-files"])
    assert {"nanobind", "robin_map"} <= set(
        re.findall(r"^\w+", (ROOT / "submodules/native/LICENSES.txt").read_text(), re.MULTILINE)
    )


def test_the_sdist_takes_what_a_build_and_the_tests_need(project: dict[str, Any]) -> None:
    taken = set(built(project, "sdist.exclude"))
    native = {
        str(p.relative_to(ROOT))
        for p in (ROOT / "submodules/native").iterdir()
        if p.suffix in (".cpp", ".h", ".txt")
    }
    named = {
        "pyproject.toml",
        "README.md",
        "constraints.txt",
        *project["project"]["license-files"],
        "tests/conftest.py",
    }
    assert native | named <= taken
    assert {
        "gs4d/export/page_assets/viewer.html",
        "gs4d/prior/weights/lift.safetensors",
        "gs4d/report/page.html",
    } <= taken
    assert {f"gs4d/presets/{path.name}" for path in PRESETS.glob("*.py")} <= taken


def test_wheels_are_described_for_every_system(project: dict[str, Any]) -> None:
    wheels = project["tool"]["cibuildwheel"]
    assert wheels["linux"]["archs"] == ["x86_64", "aarch64"]
    assert wheels["macos"]["archs"] == ["arm64"]
    assert wheels["windows"]["archs"] == ["AMD64"]
    lowest = project["project"]["requires-python"].removeprefix(">=").replace(".", "")
    assert wheels["build"][0] == f"cp{lowest}-*"
    for line in wheels["test-command"]:
        assert line.split()[0] == "gs4d"
        assert line.split()[1] in COMMANDS


@pytest.mark.parametrize(
    "script",
    [
        "train.py",
        "render.py",
        *(f"preprocess/{p.name}" for p in (ROOT / "preprocess").glob("*.py")),
    ],
)
def test_scripts_of_a_checkout_are_the_commands_of_the_package(script: str) -> None:
    name = Path(script).stem
    assert COMMANDS[name][0] == f"gs4d.commands.{name}"
    text = (ROOT / script).read_text()
    assert f"from gs4d.commands.{name} import main\n" in text
    assert f'partial(main, program="{script}")' in text
    assert len(text.splitlines()) <= 15


def test_every_command_of_the_table_is_there(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert {
        "train",
        "render",
        "frames",
        "sync",
        "views",
        "mesh",
        "dataset",
        "doctor",
        "export",
        "score",
        "view",
    } == set(COMMANDS)
    for name in COMMANDS:
        monkeypatch.setattr(sys, "argv", ["gs4d", name, "--help"])
        with pytest.raises(SystemExit) as stop:
            main()
        assert not stop.value.code
        assert f"usage: gs4d {name} " in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["gs4d", "trian"])
    assert main() == 2
    assert "did you mean 'train'" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["gs4d", "--version"])
    assert main() == 0
    assert capsys.readouterr().out == f"gs4d {__version__}\n"


def test_python_m_gs4d_is_the_command_in_any_folder(tmp_path: Path) -> None:
    done = python("-m", "gs4d", "--version", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"gs4d {__version__}\n"), done.stderr


@pytest.mark.parametrize(
    ("argv", "typed"),
    [
        (["train.py", "-e", "a"], ["python", "train.py", "-e", "a"]),
        (["/usr/bin/gs4d", "train", "-e", "a"], ["gs4d", "train", "-e", "a"]),
        (["C/Scripts/gs4d.exe", "train"], ["gs4d", "train"]),
        (["/lib/site-packages/gs4d/__main__.py", "train"], ["python", "-m", "gs4d", "train"]),
    ],
)
def test_a_cut_run_is_told_how_it_was_started(argv: list[str], typed: list[str]) -> None:
    assert as_typed(argv) == typed


@pytest.mark.parametrize("name", ["i2v", "quick", "quality"])
def test_presets_are_found_by_name_where_there_is_no_such_file(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shipped = load_config(ROOT / "arguments" / f"{name}.py")
    monkeypatch.chdir(tmp_path)
    assert load_config(Path(name)) == shipped
    assert capsys.readouterr().err == ""
    assert load_config(Path(f"arguments/{name}.py")) == shipped
    assert f"the preset {name} that comes with gs4d is taken" in capsys.readouterr().err
    # A file of that name wins.
    for path in (Path(name), Path(f"arguments/{name}.py")):
        path.parent.mkdir(exist_ok=True)
        path.write_text("from gs4d.config import Config\nconfig = Config(name='mine')\n")
        assert load_config(path).name == "mine"


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("i2w", "did you mean 'i2v'"),
        ("arguments/qick.py", "did you mean 'arguments/quick.py'"),
        # a file of one's own that is not there is no preset
        ("elsewhere/quick.py", "does not exist"),
        ("train_lift", "does not exist"),  # of another kind
        ("nothing-like-it", "presets"),
    ],
)
def test_unknown_presets_are_refused_with_the_nearest(
    given: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        UserError, match=re.escape(sentence) if sentence != "presets" else "i2v, quality, quick"
    ):
        load_config(Path(given))


def test_presets_and_their_rule_are_in_the_help() -> None:
    assert preset_names(Config) == ["i2v", "quality", "quick"]
    assert preset_names(TrainOptions) == ["train_lift", "train_mini", "train_surface"]
    assert about_presets(Config).endswith(
        "as i2v or arguments/i2v.py; presets: i2v, quality, quick."
    )
    # Every preset is of some kind, and has its file in a checkout.
    shipped = {path.name for path in PRESETS.glob("*.py")} - {"__init__.py"}
    assert shipped == {
        f"{name}.py" for kind in (Config, TrainOptions) for name in preset_names(kind)
    }
    assert shipped == {path.name for path in (ROOT / "arguments").glob("*.py")}


def test_commands_do_not_import_what_one_system_lacks() -> None:
    """What other systems than Linux lack is imported where it is used.

    The modules are made absent in a fresh process.
    """
    code = """
import importlib, json, pkgutil, sys
for name in ("resource", "fcntl", "pwd", "grp", "termios"):
    sys.modules[name] = None
import gs4d.cli, gs4d.presets
for module, _ in gs4d.cli.COMMANDS.values():
    importlib.import_module(module)
import gs4d.pipeline, gs4d.intake.frames, gs4d.intake.mesh, gs4d.intake.sync
import gs4d.intake.views, gs4d.intake.assets
print(json.dumps("ok"))
"""
    done = python("-c", code, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == "ok"
