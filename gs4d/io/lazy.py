"""Pictures that are decoded when they are asked for, and kept while they fit.

Long clips are larger than memory.
"""

from __future__ import annotations

import threading
import zlib
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import torch
from jaxtyping import UInt8
from torch import Tensor

from ..clip import Pictures
from ..errors import UserError
from .images import read_image, resize_rgba

# decoded pictures of a whole clip; a fit at 512 pixels then stays below 2 GB
CACHE_BYTES = 768 << 20
READERS = 3  # threads that decode ahead
MAX_PENDING = 64  # pictures that are decoded ahead at most: they come on top of the cache


class PictureCache:
    """Decoded pictures of all views of a clip, at most ``budget`` bytes of them.

    The longest unused goes first.
    """

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.bytes = 0
        self._kept: OrderedDict[Path, Tensor] = OrderedDict()
        self._pending: dict[Path, Future[Tensor]] = {}
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None

    def get(self, path: Path, size: tuple[int, int]) -> UInt8[Tensor, "h w 4"]:
        """The picture of a file at ``size`` (width, height), which is always the same for a file.

        Raises:
            UserError: the file is absent or damaged.
        """
        with self._lock:
            if path in self._kept:
                self._kept.move_to_end(path)
                return self._kept[path]
            future = self._pending.get(path)
        picture = future.result() if future else decode(path, size)
        with self._lock:
            self._pending.pop(path, None)
            if path not in self._kept:
                self._kept[path] = picture
                self.bytes += picture.nbytes
            while self.bytes > self.budget and len(self._kept) > 1:
                self.bytes -= self._kept.popitem(last=False)[1].nbytes
        return picture

    def expect(self, path: Path, size: tuple[int, int]) -> None:
        """Begins to decode a file that will be asked for soon, in another thread."""
        with self._lock:
            if path in self._kept or path in self._pending or len(self._pending) >= MAX_PENDING:
                return
            self._pool = self._pool or ThreadPoolExecutor(READERS, thread_name_prefix="pictures")
            self._pending[path] = self._pool.submit(decode, path, size)

    def fill(self, wanted: Sequence[tuple[Path, tuple[int, int]]]) -> None:
        """Decodes all of ``wanted`` now, with a few threads."""
        with ThreadPoolExecutor(READERS) as pool:
            for _ in pool.map(lambda item: self.get(*item), wanted):
                pass


def decode(path: Path, size: tuple[int, int]) -> UInt8[Tensor, "h w 4"]:
    """The picture of a file at ``size`` (width, height)."""
    image = resize_rgba(read_image(path, need_alpha=True), *size)
    return torch.from_numpy(image if image.flags.writeable else image.copy())


class FilePictures(Pictures):
    """The frames of a view as files of one size, one per frame."""

    def __init__(self, paths: Sequence[Path], size: tuple[int, int], cache: PictureCache) -> None:
        """Frames that are ``size`` (width, height) when they are decoded."""
        self.paths, self.cache, self._size = tuple(paths), cache, size
        self.shape = (len(self.paths), size[1], size[0], 4)

    @property
    def wanted(self) -> list[tuple[Path, tuple[int, int]]]:
        """All files with the size that they are decoded at."""
        return [(path, self._size) for path in self.paths]

    def __getitem__(self, frame: int) -> UInt8[Tensor, "h w 4"]:
        return self.cache.get(self.paths[frame], self._size)

    def expect(self, frame: int) -> None:
        """Has a frame decoded ahead."""
        self.cache.expect(self.paths[frame], self._size)

    def digest(self, start: int) -> int:
        """Returns a checksum of the files, which goes on from ``start``."""
        value = zlib.crc32(repr(self.shape).encode(), start)
        for path in self.paths:
            try:
                value = zlib.crc32(path.read_bytes(), value)
            except OSError as error:
                raise UserError(
                    f"{path} cannot be read ({error.strerror or error}); restore it"
                ) from error
        return value
