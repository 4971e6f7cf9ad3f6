"""README.md and docs/: their links, files, commands and flags are those that exist."""

import re
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from gs4d import options
from gs4d.cli import COMMANDS
from gs4d.options import find_config

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SCRIPTS = {"train.py": "train", "render.py": "render"} | {
    f"preprocess/{path.name}": path.stem for path in (ROOT / "preprocess").glob("*.py")
}
# Flags in the text that no dataclass of options has: of pip, torchrun, SyncDreamer, tests/fuzz.py;
# and those above all options.
FOREIGN = {"--extra-index-url", "--nproc_per_node", "--standalone", "--crop_size", "--hours"}
FOREIGN |= {"--configs", "--help", "--help-all"}
PAGE_IDS = [str(path.relative_to(ROOT)) for path in PAGES]


class Parsed(Exception):
    """Raised in place of what a command does after it has parsed its arguments."""

    def __init__(self, value: Any) -> None:
        self.value = value


def parsers(monkeypatch: pytest.MonkeyPatch) -> dict[str, Callable[[list[str]], Any]]:
    """The commands, which parse what they are given and do nothing else."""
    real = options.parse

    def parse(kind: type[Any], arguments: list[str], **rest: Any) -> None:
        raise Parsed(real(kind, arguments, **rest))

    names = {name: module for name, (module, _) in COMMANDS.items()}
    names["gs4d.prior.train"] = "gs4d.prior.train.__main__"
    modules = {name: import_module(module) for name, module in names.items()}
    for name, module in list(sys.modules.items()):
        if name.startswith("gs4d") and getattr(module, "parse", None) is real:
            monkeypatch.setattr(module, "parse", parse)
    return {name: module.main for name, module in modules.items()}


def parsed(command: Callable[[list[str]], Any], arguments: list[str]) -> Any:
    with pytest.raises(Parsed) as caught:
        command(arguments)
    return caught.value.value


FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def code(text: str) -> Iterator[str]:
    """Lines of the code blocks for a shell, joined where they end in a backslash, and spans."""
    for language, block in FENCED.findall(text):
        if language in ("", "bash"):
            yield from block.replace("\\\n", " ").splitlines()
    yield from (" ".join(span.split()) for span in re.findall(r"`([^`]+)`", FENCED.sub("", text)))


def words(line: str) -> list[str]:
    """The words of a command as a shell would take them, without its comment."""
    return (
        shlex.split(line, comments=True) if line.startswith(("python ", "gs4d ", "make ")) else []
    )


@cache
def known_flags() -> set[str]:
    """The flags of all commands, with '.' between nested names."""
    with pytest.MonkeyPatch.context() as patch:
        found = [parsed(command, []) for command in parsers(patch).values()]
    return {flag for value in found for flag in flags_of(value)}


def flags_of(value: Any, prefix: str = "--") -> Iterator[str]:
    for entry in fields(value):
        nested, name = getattr(value, entry.name), f"{prefix}{entry.name}"
        yield name
        yield f"{prefix}no_{entry.name}"
        if is_dataclass(nested):
            yield from flags_of(nested, f"{name}.")


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


@pytest.mark.parametrize("page", PAGES, ids=PAGE_IDS)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)\)", page.read_text()):
        assert "://" in target or (page.parent / target).exists(), target


def test_the_index_names_every_page() -> None:
    index = (ROOT / "docs/README.md").read_text()
    assert [page.name for page in PAGES[1:] if f"({page.name})" not in index] == ["README.md"]


@pytest.mark.parametrize("page", PAGES, ids=PAGE_IDS)
def test_files_that_are_named_exist(page: Path) -> None:
    shape = r"(?:gs4d|tests|benchmarks|arguments|preprocess|submodules|tools|viewer)/[\w./-]*\w"
    for span in code(page.read_text()):
        for name in re.findall(rf"(?<![\w/])({shape})(?![\w*{{])", span):
            assert (ROOT / name).exists(), name


@pytest.mark.parametrize("page", PAGES, ids=PAGE_IDS)
def test_commands_parse(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = parsers(monkeypatch)
    for line in code(page.read_text()):
        program, *arguments = words(line) or [""]
        if program == "make":
            targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
            assert arguments[0] in targets, line
            continue
        if arguments[:1] == ["-m"]:
            arguments = arguments[1:]
        name = arguments.pop(0) if arguments else ""
        name = SCRIPTS.get(name, name)
        if name.startswith("benchmarks"):
            source = (ROOT / f"{name.removesuffix('.py').replace('.', '/')}.py").read_text()
            own = [word for word in arguments if word.startswith("--") and "." not in word]
            for flag in own:
                assert any(word in source for word in (flag, f"{flag[2:]}: ")), line
        elif name in commands and "..." not in arguments and "--help" not in arguments:
            parsed(commands[name], arguments)


@pytest.mark.parametrize("page", PAGES, ids=PAGE_IDS)
def test_flags_in_the_text_exist(page: Path) -> None:
    known = known_flags() | FOREIGN
    benchmarks = "".join(path.read_text() for path in (ROOT / "benchmarks").glob("*.py"))
    for line in code(page.read_text()):
        if words(line):
            continue
        for flag in re.findall(r"(?<![\w-])--[a-z][\w.-]*\w", line):
            aliases = {flag, flag.replace("-", "_").replace("__", "--", 1)}
            assert aliases & known or f'"{flag}"' in benchmarks, flag


def test_presets_are_those_of_the_package() -> None:
    text = (ROOT / "docs/training.md").read_text()
    from gs4d.config import Config

    presets = re.findall(r"^\| `(arguments/\w+\.py)`", text, re.MULTILINE)
    assert len(presets) == 3
    assert all(find_config(Config, ROOT / name).is_file() for name in presets)
