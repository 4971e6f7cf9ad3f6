"""Standard output and error that do not end a command when nobody reads them any more."""

from __future__ import annotations

import errno
import io
import os
import sys
from contextlib import suppress
from typing import Any

# the reader, or the terminal
GONE = {errno.EPIPE, errno.EIO, errno.EBADF, errno.ENXIO, errno.ECONNRESET}


class Outlet(io.FileIO):
    """A descriptor that takes everything once its reader has gone."""

    def write(self, data: Any) -> int | None:
        """As a file's; what nobody would read counts as written."""
        try:
            return super().write(data)
        except OSError as error:
            if error.errno not in GONE:
                raise
            with suppress(OSError):  # what C code prints is to go nowhere, too
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self.fileno())
                os.close(nowhere)
            return memoryview(data).nbytes


def keep_open() -> None:
    """Makes output go on without a reader, and without characters that the terminal cannot show.

    Descriptors that were closed when the command began are opened on nothing: otherwise the first
    file to be opened would be taken for the output.
    """
    while (lowest := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(lowest, True)
    os.close(lowest)
    for number, name in ((1, "stdout"), (2, "stderr")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(
                sys, name, io.TextIOWrapper(io.FileIO(os.devnull, "w"), "utf-8", write_through=True)
            )
        elif stream is getattr(sys, f"__{name}__") and isinstance(stream, io.TextIOWrapper):
            with suppress(OSError, ValueError):
                stream.flush()
            buffer = io.BufferedWriter(Outlet(number, "wb", closefd=False))
            lines = stream.line_buffering or name == "stderr"
            setattr(
                sys,
                name,
                io.TextIOWrapper(buffer, stream.encoding, "replace", line_buffering=lines),
            )
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
