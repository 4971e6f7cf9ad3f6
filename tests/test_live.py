"""The live window on a real server, watched over a real socket by what a browser would send."""

import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from http.client import HTTPConnection
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from test_fit import OPTIONS, states
from toys import toy_clip
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from gs4d.fit import Fitter, fit
from gs4d.geometry import SH_C0, covariances
from gs4d.io.checkpoint import read_record
from gs4d.view.live import ENLARGE, LiveWindow

CAMERA = {
    "type": "ViewerCameraMessage",
    "wxyz": (1.0, 0.0, 0.0, 0.0),
    "position": (0.0, 0.0, 1.5),
    "fov": 0.8,
    "near": 0.01,
    "far": 100.0,
    "image_height": 60,
    "image_width": 80,
    "look_at": (0.0, 0.0, 0.0),
    "up_direction": (0.0, 1.0, 0.0),
}
SHORT = replace(OPTIONS, steps=24)


class Page:
    """What is on the other end of the socket."""

    def __init__(self, socket: Any) -> None:
        self.socket, self.bytes = socket, 0

    def send(self, message: dict[str, Any]) -> None:
        self.socket.send(msgspec.msgpack.encode(message))

    def press(self, button: Any) -> None:
        self.send(
            {"type": "GuiUpdateMessage", "uuid": button._impl.uuid, "updates": {"value": True}}
        )

    def drain(self) -> None:
        for message in self.socket:
            self.bytes += len(message)


@contextmanager
def page_at(window: LiveWindow) -> Iterator[Page]:
    protocols = [Subprotocol(f"viser-v{version('viser')}")]
    with connect(window.url.replace("http", "ws"), subprotocols=protocols, max_size=None) as socket:
        page = Page(socket)
        page.send(CAMERA)
        reader = threading.Thread(target=page.drain, daemon=True)
        reader.start()
        wait_for(lambda: window.server.get_clients())
        yield page
    reader.join(10)


def wait_for(condition: Any) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.01)


@pytest.fixture
def window() -> Iterator[LiveWindow]:
    with LiveWindow(18080) as opened:
        yield opened


def test_watching_changes_no_bit(tmp_path: Path, window: LiveWindow):
    clip = toy_clip()
    for folder, watcher in (("alone", None), ("watched", window)):
        (tmp_path / folder).mkdir()
        with page_at(window) as page:
            window.play.value = True
            fit(clip, SHORT, tmp_path / folder, on_step=watcher)
            if watcher is not None:
                wait_for(lambda page=page: page.bytes > 300 * 20)
    alone, watched = states(tmp_path / "alone"), states(tmp_path / "watched")
    assert alone.keys() == watched.keys()
    assert [name for name in alone if not torch.equal(alone[name], watched[name])] == []


def test_the_window_shows_the_asset_at_the_sliders_time(window: LiveWindow):
    fitter = Fitter(toy_clip(), SHORT)
    for _ in range(12):
        fitter.advance()
    fitter.history.append(
        {"step": 12, "stage": "coarse", "loss": 0.25, "psnr": 20.0, "gaussians": 300}
    )
    with page_at(window):
        window(fitter)
        shown = window.splat
        first = shown.centers.copy()
        assert len(window.frusta) == len(fitter.clip.tracks)
        window.slider.value = 2.0
        window.next_update = 0.0
        window.moved.set()
        window(fitter)
    g = fitter.asset().at(1.0)
    assert not np.array_equal(shown.centers, first)
    assert shown.centers == pytest.approx(g.means.numpy() * ENLARGE, abs=1e-6)
    wanted = covariances(g.quats, g.log_scales).numpy() * ENLARGE**2
    assert np.abs(shown.covariances - wanted).max() <= 2**-10 * np.abs(wanted).max()
    colors = (0.5 + SH_C0 * g.sh[:, 0]).clamp(0, 1)
    assert np.abs(shown.rgbs / 255 - colors.detach().numpy()).max() <= 1 / 255
    assert (
        np.abs(shown.opacities[:, 0] / 255 - g.logit_opacities.sigmoid().numpy()).max() <= 1 / 255
    )
    assert window.frame == 2
    assert "step 12 of 24" in window.status.content
    assert window.loss.data[1].tolist() == [0.25]


def test_the_cameras_stand_where_the_rig_does(window: LiveWindow):
    fitter = Fitter(toy_clip(), SHORT)
    window(fitter)
    for track, frustum in zip(fitter.clip.tracks, window.frusta, strict=True):
        assert frustum.position == pytest.approx(track.camera().centers[0].numpy(), abs=1e-5)
        w, x, y, z = frustum.wxyz
        # the turned z axis
        ahead = np.array([2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)])
        assert ahead == pytest.approx(
            -frustum.position / np.linalg.norm(frustum.position), abs=1e-5
        )


def test_nobody_watching_costs_nothing(tmp_path: Path, window: LiveWindow):
    fitter = Fitter(toy_clip(), SHORT)
    window(fitter)
    before = window.splat.centers.copy()
    fitter.advance()
    window.next_update = 0.0
    window.moved.set()
    window(fitter)
    assert np.array_equal(window.splat.centers, before)


def test_pause_resume_and_finish_from_the_page(tmp_path: Path, window: LiveWindow):
    done: list[Fitter] = []
    seen: list[int] = []

    def watched(fitter: Fitter) -> Any:
        seen.append(fitter.step)
        return window(fitter)

    options = replace(SHORT, steps=100_000)
    thread = threading.Thread(
        target=lambda: done.append(fit(toy_clip(), options, tmp_path, on_step=watched)), daemon=True
    )
    with page_at(window) as page:
        thread.start()
        wait_for(lambda: len(seen) > 3)
        page.press(window.pause_button)
        # asked again and again at the same step
        wait_for(lambda: len(seen) > 6 and len(set(seen[-3:])) == 1)
        assert window.pause_button.label == "Resume"
        held = seen[-1]
        page.press(window.pause_button)
        wait_for(lambda: seen[-1] > held)
        page.press(window.stop_button)
        thread.join(20)
    assert done[0].step == read_record(tmp_path)["step"] == seen[-1]
    assert held < seen[-1] < 100_000
    assert window.stop_button.disabled
    # It can be taken up again from there.
    more = fit(
        toy_clip(),
        options,
        tmp_path,
        resume=True,
        on_step=lambda fitter: "stop" if fitter.step > seen[-1] else None,
    )
    assert more.step == seen[-1] + 1


def test_the_clock_of_the_fit_stands_still_while_it_waits(tmp_path: Path):
    asked: list[float] = []

    def wait(fitter: Fitter) -> Any:
        asked.append(time.monotonic())
        return "wait" if fitter.step == 1 and asked[-1] - asked[0] < 1.0 else None

    began = time.monotonic()
    fitter = fit(toy_clip(), replace(SHORT, steps=2), tmp_path, on_step=wait)
    assert fitter.step == 2
    assert fitter.seconds <= time.monotonic() - began - 1.0


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Host": "evil.example"}, 403),
        ({"Host": "["}, 400),
    ],
)
def test_another_website_gets_nothing(window: LiveWindow, headers: dict[str, str], status: int):
    port = window.server.get_port()
    asked = {"Host": f"localhost:{port}", **headers}
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
        "Sec-WebSocket-Protocol": f"viser-v{version('viser')}",
    }
    for more in ({}, upgrade):
        with closing(HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
            connection.request("GET", "/", headers={**more, **asked})
            assert connection.getresponse().status == status
    with closing(
        HTTPConnection("127.0.0.1", port, timeout=20)
    ) as connection:  # its own page gets through
        own = {"Host": f"localhost:{port}", "Origin": f"http://localhost:{port}"}
        connection.request("GET", "/", headers={**upgrade, **own})
        assert connection.getresponse().status == 101
