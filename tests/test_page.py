"""The page with everything inside, and the server that shows it while a run trains.

What a browser would get, without one.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from toys import blobs

from gs4d.asset import Asset
from gs4d.asset_record import pack_asset
from gs4d.clip import Orbit
from gs4d.errors import UserError
from gs4d.export.glb import write_glb
from gs4d.export.page import TEMPLATE, page_of, write_html
from gs4d.io.checkpoint import INDEX, write_checkpoint
from gs4d.io.files import write_json
from gs4d.io.ply import write_ply
from gs4d.motion import HexPlane, HexPlaneOptions
from gs4d.view.origin import refusal
from gs4d.view.server import Server, Subject, ViewOptions, main

HOSTILE = "</title><script>alert(1)</script> \"'&@@ASSET@@%%SCRIPT%%\n\udcff"


class Page(HTMLParser):
    """Every tag with its attributes, and the text inside each."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags:
            self.texts.append((self.tags[-1][0], data))

    def policy(self) -> dict[str, str]:
        (content,) = (
            a["content"] for _, a in self.tags if a.get("http-equiv") == "Content-Security-Policy"
        )
        return dict(rule.split(" ", 1) for rule in str(content).split("; "))


def small_asset() -> Asset:
    gaussians = blobs(0.0)
    return Asset(
        gaussians,
        HexPlane(HexPlaneOptions(resolution=4, channels=16, width=16), 3),
        3,
        {"input": (Orbit(),)},
    )


def write_run(folder: Path, step: int) -> None:
    """What a training run leaves behind at a step, as little as can be shown."""
    asset = small_asset()
    lifted = asset.gaussians.replace(means=asset.gaussians.means + 0.01 * step)
    tensors, record = pack_asset(replace(asset, gaussians=lifted))
    write_checkpoint(folder, tensors, {"step": step, "options": {"steps": 1500}, **record})


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, bytes]:
    """A page, and the .glb of the same asset."""
    folder = tmp_path_factory.mktemp("page")
    write_html(folder / "róse.html", small_asset())
    write_glb(folder / "asset.glb", small_asset())
    return (folder / "róse.html").read_text(encoding="utf-8"), (folder / "asset.glb").read_bytes()


@contextmanager
def served(path: Path) -> Iterator[Server]:
    with Server(Subject(path), 18765) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def get(server: Server, path: str, host: str | None = None) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=20)
    with closing(connection):
        connection.putrequest("GET", path, skip_host=host is not None)
        if host is not None:
            connection.putheader("Host", host)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()


def test_the_page_holds_the_very_bytes_of_the_glb(written: tuple[str, bytes]) -> None:
    text, glb = written
    (inside,) = re.findall(r'<script id="asset"[^>]*>([^<]*)</script>', text)
    assert base64.b64decode(inside, validate=True) == glb
    assert "<title>róse</title>" in text
    assert "@@" not in text.replace(inside, "")


def test_the_page_may_run_its_own_script_and_nothing_else(written: tuple[str, bytes]) -> None:
    page = Page(written[0])
    policy = page.policy()
    assert policy["default-src"] == policy["connect-src"] == "'none'"
    for tag in ("script", "style"):
        (own,) = re.findall(f"<{tag}>(.*?)</{tag}>", written[0], re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(own.encode()).digest()).decode()
        assert policy[f"{tag}-src"] == f"'sha256-{digest}'"
    assert not any("unsafe" in rule or "http" in rule or "*" in rule for rule in policy.values())


def test_the_page_names_nothing_outside_itself(written: tuple[str, bytes]) -> None:
    page = Page(written[0])
    for _, attributes in page.tags:
        assert not {"src", "srcset", "style", "onclick", "onload"} & set(attributes)
        assert attributes.get("href", "data:,") == "data:,"
    (style,) = re.findall("<style>(.*?)</style>", written[0], re.DOTALL)
    assert "url(" not in style
    assert "@import" not in style


@pytest.mark.parametrize("glb", [b"glTF" * 9, None])
def test_a_strangers_name_cannot_leave_its_place(glb: bytes | None) -> None:
    plain, hostile = page_of("x", glb=glb), page_of(HOSTILE, glb=glb)
    assert [tag for tag, _ in Page(hostile).tags] == [tag for tag, _ in Page(plain).tags]
    assert "alert(1)" in next(text for tag, text in Page(hostile).texts if tag == "title")
    assert Page(hostile).policy() == Page(plain).policy()
    hostile.encode()  # whatever the name of the file was made of


def test_a_page_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        write_html(tmp_path / "file" / "rose.html", small_asset())
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_the_template_is_small() -> None:
    assert TEMPLATE.stat().st_size < 100_000


def test_the_server_gives_the_page_and_its_splats(tmp_path: Path) -> None:
    write_run(tmp_path / "rose run", step=400)
    with served(tmp_path / "rose run") as server:
        status, headers, body = get(server, "/")
        page = Page(body.decode())
        assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
        assert page.policy()["connect-src"] == "'self'"
        assert ("title", "rose run") in page.texts
        (asset,) = (attributes for _, attributes in page.tags if attributes.get("id") == "asset")
        assert asset["data-source"] == "asset.glb"
        status, headers, body = get(server, "/asset.glb?some-version")
        assert (status, headers["Content-Type"], body[:4]) == (200, "model/gltf-binary", b"glTF")


@pytest.mark.parametrize(
    "path",
    [
        "/../../etc/passwd",
        "/%2e%2e/checkpoint.json",
        "/checkpoint.json",
        "//etc/passwd",
        "/asset.glb/../x",
        "/a?/asset.glb",
    ],
)
def test_the_server_opens_no_other_file(tmp_path: Path, path: str) -> None:
    write_run(tmp_path, step=1)
    with served(tmp_path) as server:
        assert get(server, path)[0] == 404


def test_the_server_knows_only_this_machine(tmp_path: Path) -> None:
    write_run(tmp_path, step=1)
    with served(tmp_path) as server:
        assert server.server_address[0] == "127.0.0.1"
        assert get(server, "/asset.glb", host="rebound.example:18765")[0] == 403
        assert get(server, "/asset.glb", host="localhost:9000")[0] == 200
        assert get(server, "//[", host="localhost")[0] == 404


@pytest.mark.parametrize(
    ("hosts", "origins", "status"),
    [
        (["localhost:8765"], [], None),
        (["[::1]:8765"], ["http://[::1]:8765"], None),
        (["LOCALHOST:8765"], ["http://localhost:8765"], None),
        (["127.0.0.1:8765"], ["https://127.0.0.1:8765"], None),
        (["localhost:8765"], ["http://localhost:3000"], 403),
        (["localhost:8765"], ["https://evil.example"], 403),
        (["localhost:8765"], ["null"], 403),
        (["localhost:8765"], ["http://localhost:8765", "https://evil.example"], 403),
        (["localhost.evil.example"], [], 403),
        (["["], [], 400),
        (["[::1"], [], 400),
        (["user@localhost"], [], 400),
        (["localhost:port"], [], 400),
        ([""], [], 400),
        ([], [], 400),
        (["localhost", "evil.example"], [], 400),
    ],
)
def test_only_this_machine_and_the_windows_own_page_may_ask(
    hosts: list[str], origins: list[str], status: int | None
) -> None:
    refused = refusal(hosts, origins)
    assert (refused and refused[0].value) == status


def test_a_host_that_cannot_be_parsed_is_a_bad_request(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path, step=1)
    with served(tmp_path) as server:
        assert get(server, "/", host="[")[0] == 400
    assert capfd.readouterr().err == ""


def test_news_follow_a_run_from_its_start_to_its_end(tmp_path: Path) -> None:
    write_json(tmp_path / "config.json", {})
    with served(tmp_path) as server:
        assert get(server, "/asset.glb")[0] == 503
        connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=20)
        with closing(connection):
            connection.request("GET", "/events")
            stream = connection.getresponse()
            assert stream.headers["Content-Type"] == "text/event-stream"

            def hear() -> dict[str, object]:
                while not (line := stream.readline()).startswith(b"data: "):
                    assert line, "the stream ended"
                return json.loads(line[6:])

            assert hear() == {
                "version": "",
                "status": "Waiting for the first checkpoint.",
                "finished": False,
            }
            write_run(tmp_path, step=400)
            first = hear()
            assert first["status"] == "step 400 of 1,500"
            splats = get(server, "/asset.glb")[2]
            write_run(tmp_path, step=800)
            second = hear()
            assert second["status"] == "step 800 of 1,500"
            assert second["version"] not in ("", first["version"])
            assert get(server, "/asset.glb")[2] != splats
            write_json(tmp_path / "report.json", {})
            assert hear() == {"version": second["version"], "status": "", "finished": True}


def test_a_damaged_checkpoint_is_told_to_the_page(tmp_path: Path) -> None:
    write_run(tmp_path, step=1)
    with served(tmp_path) as server:
        (tmp_path / INDEX).write_text("{")
        status, _, body = get(server, "/asset.glb")
        assert status == 503
        assert "checkpoint" in body.decode()


def test_a_port_in_use_is_passed_over(tmp_path: Path) -> None:
    write_run(tmp_path, step=1)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with Server(Subject(tmp_path), port) as server:
            assert server.server_address[1] > port


def test_what_cannot_be_shown_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere"):
        Subject(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"ViewOptions.port is 0"):
        ViewOptions(port=0)
    with pytest.raises(UserError, match=r"unknown option --prot \(did you mean '--port'\?\)"):
        main([str(tmp_path), "--prot", "1"])


def test_the_command_serves_until_it_is_stopped(tmp_path: Path) -> None:
    write_run(tmp_path, step=1)
    code = "import sys; from gs4d.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "view", str(tmp_path), "--port", "18900", "--no_browser"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        line = process.stdout.readline()
        url = re.search(r"http://127\.0\.0\.1:(\d+)/", line)
        assert url, line
        with closing(
            http.client.HTTPConnection("127.0.0.1", int(url[1]), timeout=20)
        ) as connection:
            connection.request("GET", "/")
            # and its body is left unread: the browser goes away
            assert connection.getresponse().status == 200
        process.terminate()
        _, errors = process.communicate(timeout=20)
        assert (process.returncode, errors) == (0, "")


def test_an_input_of_files_is_served_too(tmp_path: Path) -> None:
    write_ply(tmp_path / "ball.ply", blobs(0.0))
    with served(tmp_path / "ball.ply") as server:
        assert ("title", "ball.ply") in Page(get(server, "/")[2].decode()).texts
        assert get(server, "/asset.glb")[2][:4] == b"glTF"


def test_a_still_asset_makes_a_page(tmp_path: Path) -> None:
    still = Asset(blobs(0.0), small_asset().motion, 1, {"input": (Orbit(elevation=10.0),)})
    write_html(tmp_path / "still.html", still, "still")
    assert torch.isfinite(still.at(0.0).means).all()
    assert "<h1>still</h1>" in (tmp_path / "still.html").read_text()
