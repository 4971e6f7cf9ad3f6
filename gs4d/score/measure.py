"""From pairs of pictures to numbers.

Every object is read once, frame by frame, all its views side by side.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import combinations, zip_longest

import torch
from jaxtyping import Float
from torch import Tensor

from ..metrics.clip import ClipEmbedder, cosine, spherical_distance
from ..metrics.frechet import c4d_fvd, frechet_distance, grid_videos
from ..metrics.i3d import I3D, i3d_frame, video_logits
from ..metrics.lpips import LPIPS, SMALLEST_SIDE
from ..metrics.temporal import frame_pair, janus
from ..native import torch_threads
from .catalogue import METRICS, UndefinedScoreError, size_of
from .pairs import FramePair, Picture, ViewPair
from .tables import Scores, ScoreTable, summarise

GRID = ("fvd_f", "fvd_v", "fvd_diag", "fv4d")
LOOK_AHEAD = 4  # frames of every view that may wait to be scored while the next is read
FROZEN = 0.5  # a result that moves less than this share of the truth earns a warning
NAN = float("nan")


@dataclass
class Networks:
    """The frozen networks that are there."""

    lpips: dict[str, LPIPS] = field(default_factory=dict)  # "alex", "vgg"
    clip: ClipEmbedder | None = None
    i3d: I3D | None = None


@dataclass
class _Film:
    """What is kept of a view while it is read: the last frame, and for I3D all of them, small."""

    last: FramePair | None = None
    embedding: Tensor | None = None  # CLIP's, of the last render
    pred: list[Tensor] = field(default_factory=list)
    truth: list[Tensor] = field(default_factory=list)


class Scorer:
    """Fills a :class:`ScoreTable`, one object at a time."""

    def __init__(
        self,
        table: ScoreTable,
        metrics: Iterable[str],
        networks: Networks,
        azimuths: dict[str, float],
        device: str,
    ) -> None:
        """Takes the metrics that can be measured, with the networks they need.

        Args:
            table: where the numbers go.
            metrics: names in ``METRICS``.
            networks: already on ``device``.
            azimuths: degrees, by the name of the view; views that are not there take no part in the
                Janus score.
            device: where pictures are compared.
        """
        self.table, self.wanted, self.networks, self.device = table, set(metrics), networks, device
        self.azimuths = azimuths
        self.sets: dict[str, tuple[list[Tensor], list[Tensor]]] = {name: ([], []) for name in GRID}

    @torch.inference_mode()
    def add_object(
        self, views: list[ViewPair], background: Float[Tensor, "3"], side: int | None
    ) -> None:
        """Reads and scores every frame of all views of one object, time by time."""
        films = {view.view: _Film() for view in views}
        name = views[0].object
        pending: deque[tuple[str, str, Future[Scores]]] = deque()
        with _workers(single=self.networks == Networks()) as pool:
            for row in zip_longest(*(view.read(background, side) for view in views)):
                pairs = {
                    v.view: self._to_device(pair)
                    for v, pair in zip(views, row, strict=True)
                    if pair is not None
                }
                for view, pair in pairs.items():
                    pending.append(
                        (view, pair.frame, pool.submit(self._pictures, pair, films[view].last))
                    )
                    self.table.frames[name, view, pair.frame] = self._see(films[view], pair)
                for front, back in self._opposite(pairs):
                    pending.append(
                        (
                            front,
                            pairs[front].frame,
                            pool.submit(self._janus, pairs[front], pairs[back]),
                        )
                    )
                while len(pending) > LOOK_AHEAD * len(views):
                    view, frame, result = pending.popleft()
                    self.table.frames[name, view, frame].update(result.result())
            for view, frame, result in pending:
                self.table.frames[name, view, frame].update(result.result())
        for view in views:
            self.table.whole_views[name, view.view] = self._motion_ratio(name, view.view)
        if self.networks.i3d is not None:
            self._score_videos(self.networks.i3d, films, name)

    @torch.inference_mode()
    def finish(self) -> None:
        """Computes what needs all objects, and writes down what is absent and what deserves a
        warning.
        """
        for name in GRID:
            pred, truth = self.sets[name]
            if name in self.wanted and name not in self.table.absent and pred:
                self.table.whole_set[name] = frechet_distance(
                    torch.stack(pred), torch.stack(truth)
                ).item()
                if len(pred) < 2:
                    self.table.notes.append(
                        f"{name} of a single video is the distance of two vectors, not of "
                        "distributions"
                    )
        overall = self.table.overall()
        for name in [name for name in self.table.absent if name in overall]:
            self.table.notes.append(
                f"{name} is undefined for some frames: {self.table.absent.pop(name)}"
            )
        for name in self.wanted:
            if name not in overall:
                self.table.absent.setdefault(name, METRICS[name].lacking)
        for (name, view), scores in self.table.whole_views.items():
            if scores.get("motion_ratio", 1.0) < FROZEN:
                self.table.notes.append(
                    f"{f'{name} {view}'.strip() or 'the result'} moves "
                    f"{scores['motion_ratio']:.0%} as much as the truth: "
                    "flicker, silhouette and CLIP-T flatter what stands still"
                )

    def _to_device(self, pair: FramePair) -> FramePair:
        if self.device == "cpu":
            return pair
        pred, truth = (
            Picture(
                p.rgb.to(self.device), None if p.alpha is None else p.alpha.to(self.device), p.label
            )
            for p in (pair.pred, pair.truth)
        )
        return FramePair(pair.frame, pred, truth)

    def _undefined(self, name: str, reason: str) -> float:
        self.table.absent.setdefault(name, reason)
        return NAN

    def _pictures(self, pair: FramePair, last: FramePair | None) -> Scores:
        """What needs no network: the render against the truth, and both against the last frame of
        their view.
        """
        scores: Scores = {}
        for name, metric in METRICS.items():
            if name in self.wanted and metric.of_picture is not None:
                try:
                    scores[name] = metric.of_picture(pair.pred, pair.truth)
                except UndefinedScoreError as error:
                    scores[name] = self._undefined(name, str(error))
        if last is not None and self.wanted & {"flicker", "silhouette", "motion"}:
            for suffix, before, after in (
                ("", last.pred, pair.pred),
                ("_truth", last.truth, pair.truth),
            ):
                measured = frame_pair(before.rgb, after.rgb, _alpha(before), _alpha(after))
                scores[f"flicker{suffix}"] = measured.flicker
                scores[f"motion{suffix}"] = measured.motion
                scores[f"silhouette{suffix}"] = (
                    NAN if before.alpha is None or after.alpha is None else measured.silhouette
                )
        return self._asked(scores)

    def _see(self, film: _Film, pair: FramePair) -> Scores:
        """What the networks make of this frame; also keeps what later frames need."""
        scores: Scores = {}
        for backbone, network in self.networks.lpips.items():
            name, least = f"lpips_{backbone}", SMALLEST_SIDE[backbone]
            scores[name] = (
                network(pair.pred.rgb, pair.truth.rgb).item()
                if min(pair.pred.rgb.shape[:2]) >= least
                else self._undefined(
                    name, f"its network needs {least} pixels a side, not {size_of(pair.pred.rgb)}"
                )
            )
        if self.networks.clip is not None:
            embedding, true_embedding = self.networks.clip(
                torch.stack([pair.pred.rgb, pair.truth.rgb])
            )
            scores["clip_i"] = cosine(embedding, true_embedding).item()
            if film.embedding is not None:
                scores["clip_t_4dgen"] = spherical_distance(film.embedding, embedding).item()
                scores["clip_t_cosine"] = cosine(film.embedding, embedding).item()
            film.embedding = embedding
        if self.networks.i3d is not None:
            film.pred.append(i3d_frame(pair.pred.rgb).cpu())
            film.truth.append(i3d_frame(pair.truth.rgb).cpu())
        film.last = pair
        return self._asked(scores)

    def _asked(self, scores: Scores) -> Scores:
        return {
            name: value
            for name, value in scores.items()
            if name.removesuffix("_truth") in self.wanted
        }

    def _opposite(self, views: Iterable[str]) -> Iterator[tuple[str, str]]:
        """Every two views from opposite sides; the row of the first gets the Janus score."""
        for front, back in combinations(
            [v for v in views if v in self.azimuths and "janus" in self.wanted], 2
        ):
            if abs((self.azimuths[front] - self.azimuths[back]) % 360 - 180) < 1:
                yield front, back

    def _janus(self, front: FramePair, back: FramePair) -> Scores:
        return {
            f"janus{suffix}": janus(a.rgb, b.rgb, a.alpha, b.alpha)
            for suffix, a, b in (("", front.pred, back.pred), ("_truth", front.truth, back.truth))
            if a.alpha is not None and b.alpha is not None
        }

    def _motion_ratio(self, name: str, view: str) -> Scores:
        rows = [s for (o, v, _), s in self.table.frames.items() if (o, v) == (name, view)]
        moved, true = (
            summarise(row.get(key, NAN) for row in rows) for key in ("motion", "motion_truth")
        )
        return {"motion_ratio": moved.mean / true.mean} if moved and true and true.mean > 0 else {}

    def _score_videos(self, network: I3D, films: dict[str, _Film], name: str) -> None:
        """Every view's C4D-FVD, and the features of all videos in the object's grid of views and
        times.
        """
        kept = list(films.items())
        lengths = {len(film.pred) for film in films.values()}
        videos = grid_videos(len(kept), max(lengths))
        if len(lengths) > 1:
            for metric in self.wanted & set(GRID):
                self._undefined(metric, f"the views of '{name}' have different numbers of frames")
            videos = {
                "fvd_f": [
                    [(v, t) for t in range(len(film.pred))] for v, (_, film) in enumerate(kept)
                ]
            }
        for metric, cells_of in videos.items():
            if metric not in self.wanted and (metric != "fvd_f" or "c4d_fvd" not in self.wanted):
                continue
            if metric != "fvd_f" and len(kept) < 2:
                self._undefined(metric, f"'{name}' has a single view")
                continue
            for v, cells in enumerate(cells_of):
                pred, truth = (
                    video_logits(
                        network, torch.stack([film[i][t] for i, t in cells]).to(self.device)
                    ).cpu()
                    for film in ([f.pred for _, f in kept], [f.truth for _, f in kept])
                )
                if metric == "fvd_f" and "c4d_fvd" in self.wanted:
                    self.table.whole_views[name, kept[v][0]]["c4d_fvd"] = c4d_fvd(
                        pred, truth
                    ).item()
                self.sets[metric][0].append(pred)
                self.sets[metric][1].append(truth)


@contextmanager
def _workers(single: bool) -> Iterator[ThreadPoolExecutor]:
    """As many threads as torch has, each of which scores one frame alone.

    Torch's own threads do not share a frame: their barriers cost more than they bring on small
    pictures, and stall when the machine has other work. ``single`` says that the calling thread,
    too, has nothing large to share (no networks).
    """
    threads = torch.get_num_threads()
    with (
        torch_threads(1 if single else threads),
        ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool,
    ):
        yield pool


def _alpha(picture: Picture) -> Float[Tensor, "h w"]:
    """Without alpha the whole picture counts as the object."""
    return torch.ones_like(picture.rgb[..., 0]) if picture.alpha is None else picture.alpha
