"""`gs4d view`: shows a run, also one still training, or a splat file in the browser."""

from __future__ import annotations

import errno
import json
import sys
import threading
import time
import webbrowser
from dataclasses import asdict, dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Annotated, Any

import tyro

from ..errors import UserError
from ..export.page import glb_bytes, page_of
from ..io.checkpoint import INDEX, read_record
from ..open_asset import read_asset
from ..options import parse
from ..ranges import Options, Range
from ..scene import YAxis
from .origin import refusal

ADDRESS = "127.0.0.1"  # never another: whoever can reach it sees the user's work
PORTS_TRIED = 20
POLL_SECONDS = 0.5
HEARTBEAT_SECONDS = 10.0  # finds out that a browser has gone
READ_ATTEMPTS = 3


@dataclass(frozen=True)
class ViewOptions(Options):
    """Options of the page."""

    path: tyro.conf.Positional[Path] = Path("output/rose")
    """Folder of a run, finished or still training, or a splat file."""
    y_axis: YAxis = "auto"
    """Where y points in files; see `gs4d render`."""
    port: Annotated[int, Range(1, 65535)] = 8765
    """On this machine only; the next free one where it is taken."""
    browser: bool = True
    """Open the page in the browser."""


@dataclass(frozen=True)
class News:
    """The state of the splats that a page shows.

    Attributes:
        version: differs whenever the splats do; empty while there are none.
        status: how far the run is; empty for a finished run and for a file.
        finished: nothing more is expected.
    """

    version: str
    status: str
    finished: bool


class Subject:
    """A run folder or splat file, as the bytes of a .glb that are made when a page wants them.

    Raises:
        UserError: there is nothing at ``path`` that can be shown, now or soon.
    """

    def __init__(self, path: Path, y_axis: YAxis = "auto") -> None:
        self.path = path
        self._y_axis: YAxis = y_axis
        self._lock = threading.Lock()
        self._made: tuple[str, bytes] = ("", b"")
        if not self._waits():
            self._made = (self._stamp(), self._read())

    @property
    def title(self) -> str:
        """The name of the run or file."""
        return self.path.resolve().name

    def news(self) -> News:
        """Returns the present state."""
        stamp = self._stamp()
        if not self._is_run():
            return News(stamp, "", True)
        if not stamp:
            return News("", "Waiting for the first checkpoint.", False)
        if (self.path / "report.json").exists():
            return News(stamp, "", True)
        try:
            record = read_record(self.path)
            return News(stamp, f"step {record['step']:,} of {record['options']['steps']:,}", False)
        except (UserError, KeyError, TypeError):
            return News(stamp, "", False)  # whoever fetches the splats is told what is wrong

    def glb(self) -> bytes:
        """The splats as they are now.

        Raises:
            UserError: they cannot be read.
        """
        with self._lock:
            for attempts_left in reversed(range(READ_ATTEMPTS)):
                stamp = self._stamp()
                if stamp and stamp == self._made[0]:
                    break
                try:
                    self._made = (stamp, self._read())
                except UserError:
                    # A training run replaces its checkpoint now and then, perhaps while it was
                    # being read.
                    if not attempts_left or stamp == self._stamp():
                        raise
            return self._made[1]

    def _read(self) -> bytes:
        return glb_bytes(read_asset(self.path, self._y_axis))

    def _is_run(self) -> bool:
        return (self.path / INDEX).exists() or (self.path / "config.json").exists()

    def _waits(self) -> bool:
        return self._is_run() and not (self.path / INDEX).exists()

    def _stamp(self) -> str:
        """Differs whenever the file or the checkpoint was replaced."""
        try:
            stat = (self.path / INDEX if self._is_run() else self.path).stat()
        except OSError:
            return ""
        return f"{stat.st_mtime_ns:x}-{stat.st_ino:x}-{stat.st_size:x}"


class Server(ThreadingHTTPServer):
    """Serves one subject on this machine, at the first free port from ``port`` on.

    Raises:
        UserError: there is none.
    """

    def __init__(self, subject: Subject, port: int) -> None:
        self.subject = subject
        self.closing = threading.Event()
        candidates = range(port, min(port + PORTS_TRIED, 65536))
        for candidate in candidates:
            try:
                super().__init__((ADDRESS, candidate), Handler)
                return
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise UserError(
                        f"cannot serve on port {candidate}: {error.strerror}; give another with "
                        "--port"
                    ) from error
        raise UserError(
            f"ports {port} to {candidates[-1]} are all in use; give another with --port"
        )

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Passes over browsers that go away in the middle of an answer or between requests."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)

    def server_close(self) -> None:
        """Ends the streams of news as well."""
        self.closing.set()
        super().server_close()

    @property
    def url(self) -> str:
        """The address of the page."""
        return f"http://{ADDRESS}:{self.server_address[1]}/"


class Handler(BaseHTTPRequestHandler):
    """Three answers and no others: no path of a request ever becomes a path of a file."""

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "gs4d", ""

    def do_GET(self) -> None:
        """Answers the page, its splats, or its stream of news."""
        try:
            refused = refusal(self.headers.get_all("Host", []), self.headers.get_all("Origin", []))
            if refused is not None:
                self._answer(refused[0], "text/plain", refused[1].encode())
                return
            answers = {"/": self._page, "/asset.glb": self._splats, "/events": self._events}
            answers.get(self.path.partition("?")[0], self._nothing)()
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # the browser has gone

    @property
    def _here(self) -> Server:
        assert isinstance(self.server, Server)
        return self.server

    def _page(self) -> None:
        self._answer(
            HTTPStatus.OK,
            "text/html; charset=utf-8",
            page_of(self._here.subject.title, glb=None).encode(),
        )

    def _splats(self) -> None:
        try:
            self._answer(HTTPStatus.OK, "model/gltf-binary", self._here.subject.glb())
        except UserError as error:
            self._answer(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "text/plain; charset=utf-8",
                str(error).encode("utf-8", "replace"),
            )

    def _nothing(self) -> None:
        self._answer(HTTPStatus.NOT_FOUND, "text/plain", b"there is nothing here; the page is at /")

    def _events(self) -> None:
        self.close_connection = True
        self._head(HTTPStatus.OK, "text/event-stream")
        told, spoken = None, time.monotonic()
        while not self._here.closing.is_set():
            news = self._here.subject.news()
            if news != told:
                self.wfile.write(f"data: {json.dumps(asdict(news))}\n\n".encode())
                told, spoken = news, time.monotonic()
            elif time.monotonic() - spoken > HEARTBEAT_SECONDS:
                self.wfile.write(b":\n\n")
                spoken = time.monotonic()
            self._here.closing.wait(POLL_SECONDS)

    def _answer(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        self._head(status, kind, len(body))
        self.wfile.write(body)

    def _head(self, status: HTTPStatus, kind: str, length: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Connection", "close") if length is None else self.send_header(
            "Content-Length", str(length)
        )
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing: the terminal belongs to the user."""


def main(arguments: list[str]) -> None:
    """``gs4d view PATH``: serves the page until Ctrl-C.

    Raises:
        UserError: there is nothing to show, or no port is free.
    """
    options = parse(
        ViewOptions,
        arguments,
        default=ViewOptions(),
        program="gs4d view",
        description="Shows splats in the browser.",
    )
    with Server(Subject(options.path, options.y_axis), options.port) as server:
        print(f"{options.path} is shown at {server.url} until Ctrl-C.", flush=True)
        if options.browser:
            threading.Thread(target=webbrowser.open, args=(server.url,), daemon=True).start()
        try:
            server.serve_forever(poll_interval=0.2)
        except KeyboardInterrupt:
            print()
