"""The header of a PLY file, as strangers' programs write it.

Byte order marks, any line end, comments in any alphabet.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .foreign import MAX_FILE_BYTES, damaged, foreign, one_line, require_memory, require_plain_file

HEADER_BYTES = 1 << 17
BOM = b"\xef\xbb\xbf"
SIZES = {
    "char": 1, "uchar": 1, "short": 2, "ushort": 2, "int": 4, "uint": 4, "float": 4, "double": 8,
    "int8": 1, "uint8": 1, "int16": 2, "uint16": 2, "int32": 4, "uint32": 4,
    "float32": 4, "float64": 8,
}  # fmt: skip
TEXT_NUMBER = 8  # bytes that the parser takes for a number of a text file
LIST_ROW = 200  # bytes that the parser takes for one list
Up = Literal["up", "down", "z", "x"]
VERTICAL: dict[str, Up] = {"z": "z", "+z": "z", "0 0 1": "z", "x": "x", "+x": "x", "1 0 0": "x",
            "+y": "up", "0 1 0": "up", "-y": "down", "0 -1 0": "down"}  # fmt: skip


@dataclass(frozen=True)
class Element:
    """One table of a PLY file: its name, rows, and the names of its columns."""

    name: str
    count: int
    properties: tuple[str, ...]


@dataclass(frozen=True)
class Header:
    """The header of a PLY file.

    Attributes:
        comments: without the word "comment".
        size: bytes in the file.
        lines: the header without comments, for the parser.
        is_plain: the file's own header is one that the parser takes.
    """

    elements: tuple[Element, ...]
    comments: tuple[str, ...]
    size: int
    lines: tuple[str, ...]
    is_plain: bool

    def element(self, name: str) -> Element | None:
        """The element of this name, or None."""
        return next((element for element in self.elements if element.name == name), None)

    def up(self) -> tuple[Up, str] | None:
        """Returns the up axis by a comment, and that comment; None where none says so.

        "Vertical axis: y" says nothing: Brush writes it into files whose y points down.
        """
        for comment in reversed(self.comments):
            said = re.fullmatch(
                r"vertical[ _]axis\s*[:=]\s*\[?([^\]]*?)\]?", comment.lower().strip()
            )
            if said and (up := VERTICAL.get(" ".join(re.split(r"[,\s]+", said[1].strip())))):
                return up, comment
        return None


def read_header(path: Path) -> Header:
    """Reads the header and checks its counts against the file's size.

    Raises:
        UserError: the file cannot be read, has no PLY header of at most 128 kB, or cannot hold what
            its header claims.
    """
    size = require_plain_file(path)
    with foreign(path, "PLY"), path.open("rb") as file:
        start = file.read(HEADER_BYTES)
    found = re.match(
        rb"(?:\xef\xbb\xbf)?ply[ \t]*(\r\n|\n|\r)(?:.*?\1)?end_header[ \t]*\1", start, re.DOTALL
    )
    if found is None:
        raise damaged(path, "is not an intact PLY (its header has no beginning or no end)")
    raw = found[0]
    text = raw.removeprefix(BOM).decode("utf-8", "replace")
    lines = [line.strip() for line in text.split(found[1].decode())]
    kept = tuple(line for line in lines if line and line.split()[0] not in ("comment", "obj_info"))
    comments = tuple(
        line.split(None, 1)[1] for line in lines if re.match(r"(comment|obj_info)\s+\S", line)
    )
    is_plain = (
        raw.isascii() and found[1] in (b"\n", b"\r\n") and b" \n" not in raw and b"\t" not in raw
    )
    header = Header(_elements(path, kept), comments, len(raw), kept, is_plain)
    _require_room(path, header, size)
    return header


def _elements(path: Path, lines: tuple[str, ...]) -> tuple[Element, ...]:
    found: list[Element] = []
    for line in lines:
        words = line.split()
        if words[0] == "element":
            if (
                len(words) != 3
                or not words[2].isascii()
                or not words[2].isdecimal()
                or len(words[2]) > 12
            ):
                raise damaged(
                    path, f"is not an intact PLY (it has the line '{one_line(line, 80)}')"
                )
            found.append(Element(words[1], int(words[2]), ()))
        elif words[0] == "property" and found and len(words) >= 3:
            last = found[-1]
            found[-1] = Element(last.name, last.count, (*last.properties, words[-1]))
    return tuple(found)


def _require_room(path: Path, header: Header, size: int) -> None:
    least = need = count = 0
    text = any(line.startswith("format ascii") for line in header.lines)
    for line in (*header.lines, "end"):
        words = line.split()
        if words[0] == "element":
            count = int(words[2])
        elif words[0] == "property" and len(words) >= 3:
            is_list = words[1] == "list"
            width = SIZES.get(words[2] if is_list else words[1], 1)
            # Least bytes of a row: in text one digit and one separator, and a list may be empty.
            least += count * (2 if text else width)
            need += count * (LIST_ROW if is_list else TEXT_NUMBER if text else width)
    if size > MAX_FILE_BYTES or least > size + 1:
        raise damaged(
            path, f"is not an intact PLY (its header claims at least {least} bytes, it has {size})"
        )
    require_memory(path, need, size, "the rows of its tables")
