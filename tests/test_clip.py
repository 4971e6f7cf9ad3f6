"""Clips that are larger than memory, cameras that move, and views that are not believed."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from toys import blobs, pixels, toy_clip, write_clip

from gs4d.asset_record import pack_asset
from gs4d.clip import Clip, Orbit, Track, cameras_of, orbit_along
from gs4d.densify import DensifyOptions
from gs4d.errors import UserError
from gs4d.export import ExportOptions, write_views
from gs4d.fit import FitOptions, Fitter, fit
from gs4d.hull import carve
from gs4d.io.checkpoint import write_checkpoint
from gs4d.io.clips import View, read_clip, read_rig, read_views, rig_record
from gs4d.io.files import write_json
from gs4d.io.images import read_image, to_bytes
from gs4d.io.lazy import FilePictures, PictureCache
from gs4d.motion import HexPlaneOptions
from gs4d.open_asset import read_asset
from gs4d.render import render
from gs4d.score.asset import score_asset

OPTIONS = FitOptions(
    steps=12,
    gaussians=300,
    resolution=32,
    views_per_step=3,
    times_per_step=2,
    densify=DensifyOptions(every=5, max_gaussians=400),
    motion=HexPlaneOptions(resolution=8, multires=(1,), width=32),
    threads=1,
)
PICTURE = 32 * 32 * 4  # bytes


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_clip(tmp_path, toy_clip(frames=4, views=3))
    return tmp_path


def orbiting(frames: int = 6, size: int = 32) -> Clip:
    """The blobs seen by the input camera, two that stay, and one that walks around while time goes
    on.
    """
    path = tuple(Orbit(360.0 * t / frames, 10.0) for t in range(frames))
    cameras = {
        "input": (Orbit(),),
        "sync_0": (Orbit(120.0, 30.0),),
        "sync_1": (Orbit(240.0, 30.0),),
        "sync_2": path,
    }
    tracks = []
    for name, orbits in cameras.items():
        images = []
        for t in range(frames):
            camera = cameras_of([orbits[min(t, len(orbits) - 1)]], width=size, height=size)
            drawn = render(blobs(t / (frames - 1)), camera, background=(0.0, 0.0, 0.0))
            straight = drawn.rgb / drawn.alpha.clamp_min(1e-6)[..., None]
            images.append(
                torch.from_numpy(to_bytes(torch.cat([straight, drawn.alpha[..., None]], -1)[0]))
            )
        tracks.append(Track(name, orbits, torch.stack(images)))
    return Clip("orbiting", tuple(tracks))


def test_a_small_clip_is_decoded_once_and_a_large_one_stays_within_its_budget(data: Path):
    small = read_clip(data, "toy", resolution=32)
    large = read_clip(data, "toy", resolution=32, cache_bytes=3 * PICTURE)
    for one, other in zip(
        (*small.tracks, *small.truth), (*large.tracks, *large.truth), strict=True
    ):
        assert isinstance(one.images, FilePictures)
        assert isinstance(other.images, FilePictures)
        assert one.images.shape == other.images.shape == (4, 32, 32, 4)
        for frame, picture in enumerate(one.images):
            assert torch.equal(picture, other.images[frame])
            assert one.images[frame] is picture
            assert other.images.cache.bytes <= 3 * PICTURE


def test_what_is_expected_is_decoded_before_it_is_asked_for(data: Path):
    paths = [data / "toy_pose0" / f"{t}.png" for t in range(4)]
    pictures = FilePictures(paths, (32, 32), PictureCache(8 * PICTURE))
    for frame in (2, 2, 3):
        pictures.expect(frame)
    decoded = [future.result() for future in pictures.cache._pending.values()]
    assert len(decoded) == 2
    paths[2].unlink()
    assert pictures[2] is decoded[0]
    assert not pictures.cache._pending.keys() & {paths[2]}


def test_a_fit_does_not_depend_on_the_budget(data: Path, tmp_path: Path):
    ends = []
    for budget in (2 * PICTURE, 1000 * PICTURE):
        clip = read_clip(data, "toy", resolution=32, cache_bytes=budget)
        ends.append(fit(clip, OPTIONS, tmp_path).asset().gaussians.means)
    assert torch.equal(*ends)


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (
            lambda p: p.write_bytes(p.read_bytes()[:-80]),
            "2_0_1_rgba.png cannot be read as a picture",
        ),
        (
            lambda p: Image.new("RGBA", (9, 32)).save(p),
            "2_0_1_rgba.png is 9x32 pixels but 0_0_1_rgba.png is 32x32",
        ),
        (lambda p: Image.new("RGB", (32, 32)).save(p), "2_0_1_rgba.png has no alpha channel"),
    ],
)
def test_a_large_clip_is_checked_when_it_is_opened(data: Path, spoil, sentence: str):
    spoil(data / "toy_sync" / "2_0_1_rgba.png")
    with pytest.raises(UserError, match=sentence):
        read_clip(data, "toy", resolution=32, cache_bytes=PICTURE)


def test_a_file_that_goes_while_fitting_gets_one_sentence(data: Path):
    clip = read_clip(data, "toy", resolution=32, cache_bytes=PICTURE)
    (data / "toy_sync" / "3_0_2_rgba.png").unlink()
    with pytest.raises(UserError, match=r"3_0_2_rgba\.png does not exist"):
        Fitter(clip, OPTIONS)
    images = clip.tracks[3].images
    assert isinstance(images, FilePictures)
    images.expect(3)
    with pytest.raises(UserError, match=r"3_0_2_rgba\.png does not exist"):
        images[3]


def test_other_files_are_not_resumed(data: Path, tmp_path: Path):
    folder = tmp_path / "run"
    folder.mkdir()
    fit(read_clip(data, "toy", resolution=32), OPTIONS, folder)
    path = data / "toy_sync" / "3_0_2_rgba.png"
    Image.fromarray(255 - read_image(path)).save(path)
    with pytest.raises(UserError, match="the pictures or the cameras of the clip changed"):
        fit(read_clip(data, "toy", resolution=32), OPTIONS, folder, resume=True)


def test_a_camera_that_moves_is_used_where_it_stands(tmp_path: Path):
    clip = orbiting()
    with pytest.raises(ValueError, match="'sync_2' moves"):
        clip.tracks[3].camera()
    hulls = [
        carve(clip, 4, cells=32),
        carve(
            Clip(
                "wrong",
                (*clip.tracks[:3], replace(clip.tracks[3], orbits=clip.tracks[3].orbits[:1])),
            ),
            4,
            cells=32,
        ),
    ]
    assert len(hulls[0]) > 1.3 * len(hulls[1])  # a wrong place cuts the object away
    options = replace(OPTIONS, steps=150)
    asset = fit(clip, options, tmp_path).asset()
    scores = score_asset(asset, clip)["views"]
    assert scores["sync_2"]["psnr"] > 21
    assert abs(scores["sync_2"]["psnr"] - scores["sync_1"]["psnr"]) < 4
    read = read_asset(tmp_path)
    assert read.orbits == asset.orbits == {track.name: track.orbits for track in clip.tracks}
    assert len(read.orbits["sync_2"]) == clip.frames
    assert read.orbit_at("sync_2", 0.5).azimuth == pytest.approx(150)
    assert read.orbit_at("sync_1", 0.5) == clip.tracks[2].orbit
    write_views(
        tmp_path / "views",
        read,
        {"sync_2": read.orbits["sync_2"]},
        ExportOptions(width=32, height=32),
    )
    drawn = torch.from_numpy(
        read_image(tmp_path / "views" / "sync_2" / "4.png")[..., :3].copy()
    ).float()
    alpha = pixels(clip.tracks[3])[4, ..., 3:].float() / 255
    seen = pixels(clip.tracks[3])[4, ..., :3].float() * alpha + 255 * (1 - alpha)
    assert (drawn - seen).abs().mean() < 16


def test_a_record_from_before_cameras_had_one_form_is_read(tmp_path: Path):
    clip = orbiting()
    asset = Fitter(clip, replace(OPTIONS, steps=3)).asset()
    tensors, record = pack_asset(asset)
    old = {**record, "step": 0, "orbits": {}, "paths": {}}
    for name, orbits in record["orbits"].items():
        old["orbits"][name] = orbits[0]
        if len(orbits) > 1:
            old["paths"][name] = orbits
    write_checkpoint(tmp_path, tensors, old)
    assert read_asset(tmp_path).orbits == asset.orbits
    old["paths"]["sync_2"] = old["paths"]["sync_2"][1:]
    write_checkpoint(tmp_path, tensors, old)
    with pytest.raises(UserError, match="neither one orbit nor one per frame"):
        read_asset(tmp_path)


def test_where_a_camera_stands_between_frames():
    path = [Orbit(0.0, 0.0), Orbit(90.0, 20.0), Orbit(180.0, 0.0)]
    assert orbit_along(path, 0.25) == Orbit(45.0, 10.0)
    assert orbit_along(path, 1.0) == orbit_along(path, 7.0) == path[2]
    assert orbit_along(path[:1], 0.3) == path[0]


def test_a_view_that_is_not_believed_does_not_teach(tmp_path: Path):
    clip = toy_clip(frames=1, views=4)
    wrong = replace(clip.tracks[2], images=pixels(clip.tracks[2]).flip(2))
    ends = []
    for images in (pixels(wrong), pixels(clip.tracks[2])):
        ignored = replace(wrong, images=images, confidence=(0.0,))
        fitter = Fitter(
            Clip("toy", (*clip.tracks[:2], ignored, *clip.tracks[3:])),
            replace(OPTIONS, start="ball"),
        )
        with torch.no_grad():
            fitter.state.parameters["sh_dc"].zero_()  # the start's colours come from all pictures
        for _ in range(4):
            fitter.advance()
        ends.append(fitter.gaussians().means.detach())
    assert torch.equal(*ends)


def test_rigs_say_how_cameras_move_and_how_far_views_are_believed(tmp_path: Path):
    path = tmp_path / "rig.json"
    moving = View(tuple(Orbit(a, 10.0, 2.0) for a in (340.0, 360.0, 380.0)), (1.0, 0.5, 0.25))
    still = View((Orbit(90.0, 10.0, 2.0),))
    write_json(
        path,
        {
            "azimuth": [[340, 0, 20], 90],
            "elevation": 10,
            "radius": 2,
            "weight": [[1, 0.5, 0.25], 1],
        },
    )
    assert read_views(path) == [moving, still]
    write_json(path, rig_record([moving, still], source="a test"))
    assert read_views(path) == [moving, still]
    with pytest.raises(UserError, match="moves camera 0"):
        read_rig(path)
    for wrong, sentence in (
        ({"views": [{"azimuth": [0, 1], "elevation": [1, 2, 3]}]}, "must be equally long"),
        ({"views": [{"weight": 1.5}]}, "weight outside 0 to 1"),
        ({"views": [{"azimuth": []}]}, "wanted a number"),
        ({"views": [{"wieght": 1}]}, "did you mean 'weight'"),
    ):
        write_json(path, wrong)
        with pytest.raises(UserError, match=sentence):
            read_views(path)


def test_a_rig_must_move_its_cameras_through_all_frames(data: Path):
    write_json(data / "toy_rig.json", {"azimuth": [[0, 10, 20], 120, 240]})
    with pytest.raises(
        UserError, match=r"moves the camera of view 'sync_0' through 3 frames but .*toy_sync has 4"
    ):
        read_clip(data, "toy", resolution=32)
    write_json(
        data / "toy_rig.json", {"azimuth": [[0, 10, 20, 30], 120, 240], "weight": [1, [1, 0], 1]}
    )
    with pytest.raises(UserError, match="2 weights"):
        read_clip(data, "toy", resolution=32)
    write_json(
        data / "toy_rig.json",
        {"azimuth": [[0, 10, 20, 30], 120, 240], "weight": [1, [1, 0, 1, 1], 0.5]},
    )
    tracks = read_clip(data, "toy", resolution=32).tracks
    assert [tracks[1].orbit_at(t).azimuth for t in range(4)] == [0, 10, 20, 30]
    assert [tracks[2].confidence_at(t) for t in range(4)] == [1, 0, 1, 1]
    assert tracks[3].confidence_at(2) == 0.5
