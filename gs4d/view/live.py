"""The live window: a fit while it goes on, in the browser, with viser."""

from __future__ import annotations

import contextlib
import io
import math
import threading
import time
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np

from ..camera import DEFAULT_FOVY_DEG, orbit_pose
from ..clip import Orbit, Track, over_white
from ..errors import UserError
from ..fit import Fitter
from ..gaussians import Gaussians
from ..geometry import SH_C0, covariances, orbit_position, rotations_to_quats
from ..io.images import to_bytes
from .origin import refusal

try:
    import viser
    from websockets.asyncio import server as sockets
except ImportError as error:
    raise UserError(
        "the live window needs viser; install it with: pip install 'gs4d[viewer]'"
    ) from error

HOST = "127.0.0.1"  # nobody but this machine
# of the fit's time that an update may take on the fit's thread; sending it costs about as much
# again
SHARE = 0.02
IDLE_SECONDS = 1.0  # between two updates when nobody moves the slider
PLAY_FPS = 8.0
THUMBNAIL = 128  # pixels, longer side
# viser sends covariances as float16, in which those of an object of size 1 would be subnormal
ENLARGE = 16.0
MAX_ROWS = 400  # points of a plot


@contextlib.contextmanager
def _guarded_socket() -> Iterator[None]:
    """Makes the server that viser opens in the block ask :func:`refusal` first.

    Viser itself answers any website.

    Raises:
        UserError: viser opened it in a way that cannot be guarded.
    """
    plain, guarded = sockets.serve, []

    def serve(*arguments: Any, process_request: Any = None, **options: Any) -> Any:
        def check(connection: Any, request: Any) -> Any:
            refused = refusal(request.headers.get_all("Host"), request.headers.get_all("Origin"))
            if refused is not None:
                return connection.respond(refused[0], refused[1] + "\n")
            return process_request(connection, request) if process_request is not None else None

        guarded.append(True)
        return plain(*arguments, process_request=check, **options)

    sockets.serve = serve  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield
    finally:
        sockets.serve = plain
    if not guarded:
        raise UserError(
            "this version of viser opens a window that every website could read; install viser 1.1"
        )


class LiveWindow:
    """Shows a fit to whoever opens the page.

    Pass it to :func:`gs4d.fit.fit` as ``on_step``, and close it.

    While no page is open it costs nothing. The buttons only set flags, which the fit's thread reads
    after each step: "Pause" holds the fit, "Finish now" ends it as if its steps were over, so that
    everything is saved and exported.

    Attributes:
        url: of the page.
    """

    def __init__(self, port: int = 8080) -> None:
        """Opens the page on this machine, at ``port`` or the next free one."""
        with contextlib.redirect_stdout(io.StringIO()), _guarded_socket():  # without its banner
            self.server = viser.ViserServer(host=HOST, port=port, label="gs4d", verbose=False)
        self.url = f"http://localhost:{self.server.get_port()}"
        self.paused, self.stopped, self.moved = (
            threading.Event(),
            threading.Event(),
            threading.Event(),
        )
        self.began: float | None = None  # of playing, in seconds
        self.next_update = 0.0
        self.frame = -1  # whose pictures the cameras show
        self.splat: Any = None
        gui, scene = self.server.gui, self.server.scene
        gui.configure_theme(show_logo=False, show_share_button=False, control_width="medium")
        scene.set_up_direction("+y")
        scene.configure_environment_map(None)
        start = self.server.initial_camera
        start.position, start.look_at = (
            tuple(orbit_position(20.0, 12.0, 1.4).tolist()),
            (0.0, 0.0, 0.0),
        )
        start.fov = math.radians(DEFAULT_FOVY_DEG)
        self.status = gui.add_markdown("Waiting for the first step.")
        self.pause_button = gui.add_button("Pause", icon=viser.Icon.PLAYER_PAUSE)
        self.stop_button = gui.add_button(
            "Finish now", icon=viser.Icon.PLAYER_STOP, hint="Save and export what is there"
        )
        self.pause_button.on_click(lambda _: self.pause(not self.paused.is_set()))
        self.stop_button.on_click(lambda _: self.stop())
        self.play = gui.add_checkbox("Play", False, order=81)

    def __enter__(self) -> LiveWindow:
        return self

    def __exit__(self, *_: object) -> None:
        self.server.stop()

    def pause(self, pause: bool) -> None:
        """Holds the fit after its current step, or lets it go on."""
        (self.paused.set if pause else self.paused.clear)()
        self.pause_button.label = "Resume" if pause else "Pause"
        self.pause_button.icon = viser.Icon.PLAYER_PLAY if pause else viser.Icon.PLAYER_PAUSE

    def stop(self) -> None:
        """Ends the fit after its current step; what follows the fit goes on."""
        self.stopped.set()
        self.pause_button.disabled = self.stop_button.disabled = True

    def __call__(self, fitter: Fitter) -> Literal["wait", "stop"] | None:
        """Sends what has changed to the pages that are open, within its share of the time.

        Says what the buttons say.
        """
        now = time.monotonic()
        if self.splat is None:
            self._build(fitter)
        due = now >= self.next_update + (0 if self._wanted() else IDLE_SECONDS)
        if self.stopped.is_set() or (due and self.server.get_clients()):
            self.moved.clear()
            self._update(fitter)
            self.next_update = time.monotonic() + (time.monotonic() - now) / SHARE * (
                not self.paused.is_set()
            )
        if self.stopped.is_set():
            return "stop"
        return "wait" if self.paused.is_set() else None

    def _wanted(self) -> bool:
        """Whether somebody waits for another time to be shown."""
        return self.moved.is_set() or self.play.value

    def _build(self, fitter: Fitter) -> None:
        """Adds what depends on the clip: the splat, the cameras and the time slider."""
        gui, scene, clip = self.server.gui, self.server.scene, fitter.clip
        self.splat = scene.add_gaussian_splats(
            "/splat", scale=1 / ENLARGE, **_arrays(fitter.asset().at(0.0))
        )
        steps = np.zeros(1), np.zeros(1)
        self.loss = gui.add_uplot(
            steps, _series("loss", "#c2255c"), scales=_scales(log=True), height=150, order=90
        )
        self.psnr = gui.add_uplot(
            steps, _series("PSNR, dB", "#1971c2"), scales=_scales(), height=150, order=91
        )
        last = max(clip.frames - 1, 1)
        self.slider = gui.add_slider(
            "Frame", 0.0, float(last), 0.05, 0.0, disabled=clip.frames == 1, order=80
        )
        self.slider.on_update(lambda _: self.moved.set())
        hint = "Click one to look through it; that hides them, because its picture is in the way"
        self.show = gui.add_checkbox("Cameras", True, order=82, hint=hint)
        parent = scene.add_frame("/cameras", show_axes=False)
        self.show.on_update(lambda _: setattr(parent, "visible", self.show.value))
        self.frusta = [self._frustum(track) for track in clip.tracks]

    def _frustum(self, track: Track) -> Any:
        wxyz, position = _pose(track.orbit)
        frustum = self.server.scene.add_camera_frustum(
            f"/cameras/{track.name}",
            math.radians(track.orbit.fov),
            track.orbit.aspect,
            scale=0.1,
            thickness=1.5,
            thickness_units="screen",
            color=(200, 40, 80) if track.name == "input" else (90, 90, 90),
            wxyz=wxyz,
            position=position,
        )

        @frustum.on_click
        def look_through(event: Any) -> None:
            self.show.value = False
            with event.client.atomic():
                event.client.camera.position = frustum.position
                event.client.camera.look_at = np.zeros(3)
                event.client.camera.fov = math.radians(track.orbit.fov)

        return frustum

    def _update(self, fitter: Fitter) -> None:
        clip = fitter.clip
        if self.play.value and clip.frames > 1:
            self.began = self.began or time.monotonic() - self.slider.value / PLAY_FPS
            self.slider.value = (time.monotonic() - self.began) * PLAY_FPS % max(clip.frames - 1, 1)
            self.moved.clear()
        else:
            self.began = None
        place = self.slider.value
        with self.server.atomic():
            self.splat.set_gaussians(**_arrays(fitter.asset().at(place / max(clip.frames - 1, 1))))
            if (frame := min(round(place), clip.frames - 1)) != self.frame:
                self.frame = frame
                for track, frustum in zip(clip.tracks, self.frusta, strict=True):
                    frustum.image = _thumbnail(track, frame)
                    frustum.wxyz, frustum.position = _pose(track.orbit_at(frame))
            if fitter.history:
                self._report(fitter)

    def _report(self, fitter: Fitter) -> None:
        rows = fitter.history[:: len(fitter.history) // MAX_ROWS + 1]
        steps = np.array([row["step"] for row in rows], float)
        self.loss.data = steps, np.array([row["loss"] for row in rows])
        self.psnr.data = steps, np.array([row["psnr"] for row in rows])
        last = fitter.history[-1]
        self.status.content = (
            f"**{last['stage']}** step {fitter.step} of {fitter.options.steps}, "
            f"{fitter.seconds:.0f} s  \n"
            f"loss {last['loss']:.4f}, {last['psnr']:.1f} dB, {last['gaussians']} Gaussians"
        )


def _pose(orbit: Orbit) -> tuple[np.ndarray, np.ndarray]:
    """Rotation (wxyz, from camera to world) and position of a camera."""
    T_camera_world = orbit_pose(orbit.azimuth, orbit.elevation, orbit.radius)
    to_world = T_camera_world[:3, :3].T
    return rotations_to_quats(to_world).numpy(), -(to_world @ T_camera_world[:3, 3]).numpy()


def _arrays(g: Gaussians) -> dict[str, Any]:
    """Returns what viser draws: covariances for scales and rotations, colours of degree 0."""
    numbers = {
        "centers": g.means * ENLARGE,
        "covariances": covariances(g.quats, g.log_scales) * ENLARGE**2,
        "rgbs": (0.5 + SH_C0 * g.sh[:, 0]).clamp(0, 1),
        "opacities": g.logit_opacities.sigmoid()[:, None],
    }
    return {name: tensor.detach().cpu().numpy() for name, tensor in numbers.items()}


def _thumbnail(track: Track, frame: int) -> np.ndarray:
    image = track.images[frame]
    step = math.ceil(max(image.shape[:2]) / THUMBNAIL)
    return to_bytes(over_white(image[::step, ::step])[0])


def _series(label: str, color: str) -> tuple[Any, Any]:
    return {"label": "step"}, {"label": label, "stroke": color, "width": 2}


def _scales(*, log: bool = False) -> dict[str, Any]:
    return {
        "x": {"time": False, "auto": True},
        "y": {"auto": True, **({"distr": 3} if log else {})},
    }
