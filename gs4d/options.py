"""Typed options from files and the command line: dataclasses whose every value is a flag."""

from __future__ import annotations

import ast
import inspect
import runpy
import sys
import textwrap
import types
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import fields, is_dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import tyro

try:  # Private in tyro 1.0: where a later one has it no more, tyro prints its own words.
    from tyro._errors import on_parse_error
except ImportError:
    on_parse_error = None

from .errors import UserError, nearest
from .io.files import read_json
from .ranges import OptionError

T = TypeVar("T")

HELP_WIDTH, HELP_INDENT = 100, 30  # columns of --help, and before what it says of a flag

PRESETS = Path(__file__).parent / "presets"  # config files that come with gs4d
CHECKOUT = Path("arguments")  # folder under whose name a checkout has them


def preset_names(kind: type[Any]) -> list[str]:
    """Names of the presets that set ``config`` to options of this kind."""
    files = sorted(PRESETS.glob("*.py"))
    return [
        p.stem for p in files if f"\nconfig = {kind.__name__}(" in p.read_text(encoding="utf-8")
    ]


def about_presets(kind: type[Any]) -> str:
    """The rule of :func:`find_config` in one sentence, for ``--help``."""
    names = preset_names(kind)
    return (
        "--configs takes a Python config file, a run's config.json or, where there is no such "
        "file, a preset that comes "
        f"with gs4d, as {names[0]} or {(CHECKOUT / names[0]).as_posix()}.py; presets: "
        f"{', '.join(names)}."
    )


def find_config(kind: type[Any], path: Path) -> Path:
    """Finds the file ``path`` or else the preset that it names: ``NAME``, ``arguments/NAME.py``.

    Raises:
        UserError: it is neither; the sentence names the nearest preset.
    """
    if path.is_file():
        return path
    names = preset_names(kind)
    if path.parent == CHECKOUT and path.suffix == ".py" and path.stem in names:
        print(
            f"There is no {path} here: the preset {path.stem} that comes with gs4d is taken.",
            file=sys.stderr,
        )
        return PRESETS / path.name
    if str(path) in names:
        return PRESETS / f"{path}.py"
    forms = [*names, *(f"{CHECKOUT}/{name}.py" for name in names)]
    raise UserError(
        f"config file {path} does not exist{nearest(path.as_posix(), forms)}; give a file, or a "
        "preset that comes with "
        f"gs4d: {', '.join(names)}"
    )


def read_options(kind: type[T], path: Path) -> T:
    """Reads options: a Python file with ``config = Config(...)``, a ``config.json``, a preset.

    Raises:
        UserError: there is none (see :func:`find_config`), it fails, or it holds something else.
    """
    path = find_config(kind, path)
    if path.suffix == ".json":
        return from_record(kind, read_json(path, "config file"), str(path))
    try:
        value = runpy.run_path(str(path)).get("config")
    except UserError as error:
        raise UserError(f"config file {path}: {error}") from error
    except (Exception, SystemExit) as error:
        raise UserError(
            f"config file {path} fails with {type(error).__name__}: {error}; correct it"
        ) from error
    if not isinstance(value, kind):
        what = "nothing" if value is None else f"a {type(value).__name__}"
        wanted = f"config = {kind.__name__}(...) with {kind.__module__}.{kind.__name__}"
        raise UserError(f"config file {path} sets config to {what}; it must say {wanted}")
    return from_record(kind, to_record(value), f"config file {path}")


def to_record(options: Any) -> dict[str, Any]:
    """A dataclass of options as JSON values."""

    def plain(value: Any) -> Any:
        if is_dataclass(value) and not isinstance(value, type):
            return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
        if isinstance(value, (tuple, list)):
            return [plain(v) for v in value]
        return str(value) if isinstance(value, Path) else value

    return plain(options)


def from_record(kind: type[T], record: Any, where: str) -> T:
    """Builds a dataclass of options from JSON values, checking every key and type.

    Options that are gone are left out: ``RETIRED`` of the dataclass gives for each the value with
    which nothing is lost, or ``...`` for any.

    Raises:
        UserError: a key is unknown or a value has the wrong type; ``where`` names the place.
    """
    if not isinstance(record, dict):
        raise UserError(f"{where} is {record!r}, wanted the options of {kind.__name__}")
    for name, harmless in getattr(kind, "RETIRED", {}).items():
        if name in record and harmless not in (..., record[name]):
            raise UserError(f"{where}: the option {name} is no longer there; leave it out")
    record = {k: v for k, v in record.items() if k not in getattr(kind, "RETIRED", {})}
    hints = get_type_hints(kind)
    names = [f.name for f in fields(kind)]  # type: ignore[arg-type]
    if unknown := sorted(set(record) - set(names)):
        raise UserError(
            f"{where} has the unknown option '{unknown[0]}'{nearest(unknown[0], names)}"
        )
    values = {
        name: _convert(hints[name], value, f"{where}: {name}") for name, value in record.items()
    }
    try:
        return kind(**values)
    except OptionError as error:
        raise error.at(f"{where}: ") from error
    except ValueError as error:
        raise UserError(f"{where}: {error}") from error


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, choices = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in choices:
            return None
        return _convert(next(c for c in choices if c is not type(None)), value, where)
    if is_dataclass(hint):
        return from_record(hint, value, where)  # type: ignore[arg-type]
    if origin is Literal and any(
        value == choice and type(value) is type(choice) for choice in choices
    ):
        return value
    if origin is tuple and isinstance(value, list):
        kinds = [choices[0]] * len(value) if choices[-1] is Ellipsis else list(choices)
        if len(kinds) == len(value):
            return tuple(_convert(k, v, where) for k, v in zip(kinds, value, strict=True))
    if hint is Path and isinstance(value, str):
        return Path(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if (
        isinstance(hint, type)
        and isinstance(value, hint)
        and (hint is bool or not isinstance(value, bool))
    ):
        return value
    wanted = (
        f"one of {', '.join(map(repr, choices))}"
        if origin is Literal
        else getattr(hint, "__name__", str(hint))
    )
    raise UserError(f"{where} is {value!r}, wanted {wanted}")


def changes(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    """``"fit.steps 3000 -> 500"`` for every value that differs between two records."""
    rows = []
    for key in sorted(set(old) | set(new)):
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            rows += changes(a, b, f"{prefix}{key}.")
        elif a != b:
            rows.append(f"{prefix}{key} {a!r} -> {b!r}")
    return rows


def parse(
    kind: type[T],
    arguments: list[str],
    *,
    default: T,
    program: str,
    description: str,
    common: Mapping[str, Sequence[str]] | None = None,
) -> T:
    """Command-line flags over ``default``.

    Every nested value has one, with '-' or '_' between words.

    Args:
        kind: the dataclass of options.
        arguments: the words after the program's name.
        default: values of flags that are not given.
        program: its name, for usage and errors.
        description: what it does, for ``--help``.
        common: options that ``--help`` shows, by headings, where they are too many; ``--help-all``
            shows all.

    Raises:
        UserError: a flag is unknown (with the nearest one) or its value has the wrong type, is out
            of its range or disagrees with another.
    """
    if common and {"-h", "--help"} & set(arguments):
        print(_short_help(default, program, description, common))
        raise SystemExit(0)
    if {"--help-all", "--help_all"} & set(arguments):
        arguments = ["--help"]

    def refuse(event: Any) -> None:
        if sentence := _sentence(event, [f"--{name}" for name in _flags(to_record(default))]):
            more = "--help-all" if common else "--help"
            raise UserError(f"{' '.join(sentence.split())}; see {program} {more}")

    with on_parse_error(refuse) if on_parse_error else nullcontext():
        return tyro.cli(
            kind,
            args=arguments,
            default=default,
            prog=program,
            description=description,
            use_underscores=True,
        )


def _short_help(
    default: Any, program: str, description: str, common: Mapping[str, Sequence[str]]
) -> str:
    """The page of ``--help``: the options of ``common``, with what their docstrings say."""
    rows = [f"usage: {program} [OPTIONS]", "", *textwrap.wrap(description, HELP_WIDTH)]
    for heading, names in common.items():
        rows += ["", f"{heading}:"]
        for name in names:
            *path, last = name.split(".")
            holder = default
            for step in path:
                holder = getattr(holder, step)
            value, hint = getattr(holder, last), get_type_hints(type(holder))[last]
            flags = ", ".join([*_aliases(type(holder), last), f"--{name}"])
            about = f"{_about(type(holder))[last]}{_shown(value)}"
            lines = textwrap.wrap(about, HELP_WIDTH - HELP_INDENT)
            flag = f"  {flags} {_metavar(hint)}".rstrip()
            if len(flag) < HELP_INDENT:
                flag += " " * (HELP_INDENT - len(flag)) + lines.pop(0)
            rows += [flag, *(" " * HELP_INDENT + line for line in lines)]
    rest = len(_flags(to_record(default))) - sum(map(len, common.values()))
    return "\n".join([*rows, "", f"{program} --help-all shows {rest} more."])


def _shown(value: Any) -> str:
    """A default value in brackets; nothing of those that say nothing."""
    if value is None or value is False or value == "":
        return ""
    return f" ({' '.join(map(str, value)) if isinstance(value, tuple) else value})"


def _metavar(hint: Any) -> str:
    """What stands for a flag's value."""
    origin, choices = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _metavar(next(choice for choice in choices if choice is not type(None)))
    if origin is tuple:
        return " ".join("..." if choice is ... else _metavar(choice) for choice in choices)
    if origin is Literal:
        return "|".join(map(str, choices))
    return "" if hint is bool else hint.__name__.upper()


def _aliases(kind: type[Any], name: str) -> tuple[str, ...]:
    """Other flags of an option, as ``tyro.conf.arg`` declares them."""
    hint = get_type_hints(kind, include_extras=True)[name]
    return tuple(
        alias for extra in get_args(hint) for alias in getattr(extra, "aliases", None) or ()
    )


def _about(kind: type[Any]) -> dict[str, str]:
    """The docstrings under the fields of a dataclass, in one line each."""
    found: dict[str, str] = {}
    for base in reversed([base for base in kind.__mro__ if is_dataclass(base)]):
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        for field, text in pairwise(getattr(tree, "body", [])):
            if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
                found[ast.unparse(field.target)] = " ".join(ast.literal_eval(text.value).split())
    return found


def _sentence(event: Any, flags: list[str]) -> str | None:
    """What is wrong, from a ``tyro._errors.ParseErrorEvent``; None where tyro shall say it."""
    kind, argument = type(event).__name__, getattr(event, "argument", None)
    name = argument.display_name() if argument else ""
    if kind == "UnrecognizedArgs":
        flag = next((word for word in event.tokens if word.startswith("-")), event.tokens[0])
        spelled = flag.replace("-", "_").replace("__", "--", 1)
        return f"unknown option {flag}{nearest(spelled, flags)}"
    if kind == "InvalidChoice":
        hint = nearest(event.value, event.choices)
        return f"{name} is '{event.value}'{hint}; there are: {', '.join(event.choices)}"
    if kind == "BadValue" and argument:
        return f"{name} wants {argument.lowered.nargs} value(s)"
    if kind != "InstantiationFailure":
        return None
    if argument:
        return f"{name}: {event.message}"
    # tyro's error knows where the options are that refuse; what they say is its context.
    error = sys.exc_info()[1]
    cause = error if isinstance(error, OptionError) else getattr(error, "__context__", None)
    mount = getattr(error, "arg", None)
    return str(
        cause.at(f"--{mount}." if mount else "--") if isinstance(cause, OptionError) else error
    )


def _flags(record: dict[str, Any], prefix: str = "") -> list[str]:
    names = []
    for key, value in record.items():
        names += _flags(value, f"{prefix}{key}.") if isinstance(value, dict) else [prefix + key]
    return names


def split_config_flag(arguments: list[str]) -> tuple[Path | None, list[str]]:
    """Takes ``--configs WHERE`` (or ``--configs=WHERE``) out of the arguments.

    See :func:`find_config`.
    """
    rest, found = list(arguments), None
    for i, argument in enumerate(arguments):
        flag, _, value = argument.partition("=")
        if flag in ("--configs", "--config"):
            following = arguments[i + 1 : i + 2]
            if not value and (not following or following[0].startswith("-")):
                raise UserError("--configs wants a file or a preset, for example --configs i2v")
            found = Path(value or following[0])
            del rest[i : i + (1 if value else 2)]
            break
    return found, rest
