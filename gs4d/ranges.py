"""Options that declare on their fields which values these take.

``steps: Annotated[int, Range(1, 1000)] = 50`` in a dataclass under :class:`Options` is checked
whenever one is built, in Python or by :mod:`gs4d.options`, which also knows its name on the command
line.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from .errors import UserError, nearest


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, both included; NaN lies in none.

    Attributes:
        low: least value.
        high: greatest value.
        multiple: what the value must be a multiple of; None: of nothing.
    """

    low: float | int
    high: float | int
    multiple: int | None = None

    def fault(self, value: Any) -> str | None:
        """Says what is wrong with a number, or with one of a tuple; None: nothing.

        What is no number is for :func:`gs4d.options.from_record` to refuse, which checks types.
        """
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, int | float) and not self._holds(number):
                break
        else:
            return None
        what = f"be a multiple of {self.multiple} and lie" if self.multiple else "lie"
        return f"is {value}; it must {what} in {self.low:g} to {self.high:g}"

    def _holds(self, number: float | int) -> bool:
        return self.low <= number <= self.high and not (self.multiple and number % self.multiple)


@dataclass(frozen=True, eq=False)  # hashed by identity: the table may be a dict
class OneOf:
    """Names of a table, where ``Literal`` cannot list them because the table is made elsewhere."""

    names: Collection[Any]

    def fault(self, value: Any) -> str | None:
        """Says which value is none of the names, of one or of a tuple; None: none is."""
        known = [str(name) for name in self.names]
        for name in value if isinstance(value, tuple) else (value,):
            if name not in self.names:
                return f"is '{name}'{nearest(str(name), known)}; there are: {', '.join(known)}"
        return None


class OptionError(UserError):
    """An option has a value that it cannot take.

    Attributes:
        sentence: names options in braces, as in "{steps} is 0; it must lie in 1 to 9".
    """

    def __init__(self, sentence: str, where: str = "") -> None:
        """Writes ``where`` before each name: a class and a dot, a flag's beginning, a file."""
        super().__init__(re.sub(r"\{(\w+)\}", lambda match: f"{where}{match[1]}", sentence))
        self.sentence = sentence

    def at(self, where: str) -> OptionError:
        """The same of options that are found at ``where``."""
        return OptionError(self.sentence, where)


class Options:
    """Base of dataclasses of options: checks the fields' declared ranges and choices."""

    def __post_init__(self) -> None:
        """Refuses values outside of what the fields declare.

        Raises:
            OptionError: the first such value.
        """
        for name, limits in _limits(type(self)).items():
            value = getattr(self, name)
            for limit in limits if value is not None else ():
                if fault := limit.fault(value):
                    raise self.error(f"{{{name}}} {fault}")

    def require_ascending(self, *names: str) -> None:
        """Refuses pairs of numbers whose smaller one comes last.

        Raises:
            OptionError: the first such pair.
        """
        for name in names:
            low, high = getattr(self, name)
            if low > high:
                raise self.error(f"{{{name}}} is {(low, high)}; the smaller number comes first")

    def error(self, sentence: str) -> OptionError:
        """A refusal whose sentence names fields in braces, as ``"{steps} is 3, and odd"``."""
        return OptionError(sentence, f"{type(self).__name__}.")


@cache
def _limits(kind: type[Options]) -> dict[str, list[Range | OneOf]]:
    """What the fields of a class declare, by their names."""
    hints = get_type_hints(kind, include_extras=True)
    return {name: found for name, hint in hints.items() if (found := list(_declared(hint)))}


def _declared(hint: Any) -> Iterator[Range | OneOf]:
    if get_origin(hint) is Annotated:
        yield from (extra for extra in get_args(hint)[1:] if isinstance(extra, Range | OneOf))
        yield from _declared(get_args(hint)[0])
    elif get_origin(hint) is Literal:
        yield OneOf(get_args(hint))
