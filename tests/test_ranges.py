"""Options that declare what they take: ranges, choices, and where they are."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

import pytest

from gs4d.errors import UserError
from gs4d.options import from_record, parse
from gs4d.ranges import OneOf, OptionError, Options, Range

COLORS = {"red": 1, "green": 2}


@dataclass(frozen=True)
class Leaf(Options):
    count: Annotated[int, Range(16, 64, multiple=16)] = 16
    size: Annotated[float | None, Range(0, 1)] = None
    pair: Annotated[tuple[float, float], Range(-1, 1)] = (0.0, 1.0)
    color: Annotated[tuple[str, ...], OneOf(COLORS)] = ()
    mode: Literal["fast", "slow"] = "fast"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_ascending("pair")


@dataclass(frozen=True)
class Tree(Options):
    near: Leaf = field(default_factory=Leaf)
    far: Leaf = field(default_factory=Leaf)


REFUSED = [
    ("count", 0, "count is 0; it must be a multiple of 16 and lie in 16 to 64"),
    ("count", 17, "count is 17; it must be a multiple of 16"),
    ("size", 1.5, "size is 1.5; it must lie in 0 to 1"),
    ("size", float("nan"), "size is nan; it must lie in 0 to 1"),
    ("pair", (0.0, 2.0), "pair is (0.0, 2.0); it must lie in -1 to 1"),
    ("pair", (1.0, 0.0), "pair is (1.0, 0.0); the smaller number comes first"),
    ("color", ("red", "gren"), "color is 'gren' (did you mean 'green'?); there are: red, green"),
    ("mode", "slwo", "mode is 'slwo' (did you mean 'slow'?); there are: fast, slow"),
]


@pytest.mark.parametrize(("name", "value", "sentence"), REFUSED)
def test_values_out_of_range_are_refused_by_the_class(name: str, value: Any, sentence: str) -> None:
    with pytest.raises(OptionError) as caught:
        Leaf(**{name: value})
    assert str(caught.value).startswith(f"Leaf.{sentence}")
    with pytest.raises(OptionError):
        replace(Leaf(), **{name: value})


@pytest.mark.parametrize(("name", "value", "sentence"), REFUSED)
@pytest.mark.parametrize("mount", ["near", "far"])
def test_the_parser_says_where_the_option_is(
    mount: str, name: str, value: Any, sentence: str
) -> None:
    words = [str(v) for v in value] if isinstance(value, tuple) else [str(value)]
    with pytest.raises(UserError) as caught:
        parse(Tree, [f"--{mount}.{name}", *words], default=Tree(), program="prog", description="")
    assert str(caught.value).startswith(f"--{mount}.{sentence}")
    assert str(caught.value).endswith("; see prog --help")


def test_records_say_where_too() -> None:
    with pytest.raises(UserError, match=r"^file: far: count is 3; it must be a multiple"):
        from_record(Tree, {"far": {"count": 3}}, "file")


def test_both_ends_and_none_are_in_range() -> None:
    assert Leaf(size=0.0).size == 0.0
    assert Leaf(size=1.0, count=64, pair=(-1.0, 1.0), color=("green", "red")).count == 64
    assert parse(
        Tree, ["--far.size", "1"], default=Tree(), program="p", description=""
    ).far == Leaf(size=1.0)
