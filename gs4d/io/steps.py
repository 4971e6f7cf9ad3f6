"""Finished steps: results on disk that are kept as long as they were made from the same.

A JSON record says what a result was made from. It lies inside a result that is a folder, and
appears with it by one rename, or beside a result that some other command writes; then it also
holds a checksum of the result, so that changed and foreign results are told from finished ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UserError
from .files import atomic_path, read_json, write_json


@dataclass(frozen=True)
class Step:
    """A folder and the record in it.

    Attributes:
        result: the folder.
        record: name of the record in it.
        source: entries of the record that say what the result is made from.
        entries: names of all entries that a whole record has.
        what: names the result in a sentence.
        indent: spaces per level of the record's JSON; None: all on one line.
    """

    result: Path
    record: str
    source: dict[str, Any]
    entries: frozenset[str]
    what: str
    indent: int | None = 2

    def found(self) -> dict[str, Any] | None:
        """Returns the record that is there, whatever its result was made from; None without one.

        Raises:
            UserError: the record is damaged.
        """
        path = self.result / self.record
        if not path.is_file():
            return None
        record = read_json(path, "record")
        if not isinstance(record, dict) or not self.entries <= record.keys():
            raise UserError(
                f"{path} is no record of {self.what}; delete {self.result} to have it made again"
            )
        return record

    def kept(self) -> dict[str, Any] | None:
        """Returns the record of a result that was made from ``source``, None where there is none.

        Raises:
            UserError: the record is damaged.
        """
        record = self.found()
        return record if record and self.source.items() <= record.items() else None

    def keep(self, fill: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
        """Replaces the result and returns its record.

        Args:
            fill: writes into an empty folder and returns the entries of the record beside
                ``source``.

        Raises:
            UserError: the folder cannot be written; what was there is still there.
        """
        with atomic_path(self.result) as part:
            part.mkdir()
            record = {**fill(part), **self.source}
            write_json(part / self.record, record, self.indent)
        return record


@dataclass(frozen=True)
class CheckedStep:
    """A file or folder that another command writes, and the record beside it.

    Attributes:
        result: the file or folder.
        record: the file of the record.
        made: what the result is made from: the input, by its content, and the settings.
        checksum: of a result's content.
        way_out: the part of an error sentence that says what else the user can do.
    """

    result: Path
    record: Path
    made: dict[str, Any]
    checksum: Callable[[Path], str]
    way_out: str

    def found(self) -> dict[str, Any] | None:
        """Returns the record of the result that is there; None where its making was cut.

        Raises:
            UserError: the result was changed, or was not made by this step.
        """
        if not self.result.exists():
            return None
        record = read_json(self.record, "record") if self.record.exists() else None
        if not isinstance(record, dict) or "digest" not in record:
            raise UserError(
                f"{self.result} is there and was not made by this recipe; {self.way_out}, or "
                "choose another name with -e"
            )
        if record["digest"] is None:
            return None
        if record["digest"] != self.checksum(self.result):
            raise UserError(
                f"{self.result} was changed after it was made; {self.way_out}, or delete it to "
                "have it made again"
            )
        return record

    def do(self, make: Callable[[], list[dict[str, str]]]) -> list[dict[str, str]]:
        """Makes the result unless it was made from the same, and returns the weights used."""
        if (record := self.found()) is not None and record.get("made") == self.made:
            print(f"{self.result}: kept, since it was made from the same with the same settings.")
            return record.get("weights", [])
        before = self.record.read_bytes() if self.record.exists() else None
        # From now on, what appears is known to be ours.
        write_json(self.record, {"made": self.made, "digest": None})
        try:
            weights = make()
        except BaseException:  # the result is what it was before
            if before is None:
                self.record.unlink()
            else:
                self.record.write_bytes(before)
            raise
        digest = self.checksum(self.result)
        write_json(self.record, {"made": self.made, "digest": digest, "weights": weights})
        return weights


def keep_file(path: Path, content: Callable[[], bytes]) -> bytes:
    """Returns the bytes of a file whose name alone says what is in it; makes it if it is absent."""
    if not path.is_file():
        with atomic_path(path) as part:
            part.write_bytes(content())
    return path.read_bytes()
