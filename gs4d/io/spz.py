"""Niantic's SPZ: reads versions 1 to 4, writes version 4 (nianticlabs/spz 3.0, 2026).

Version 4, little-endian: a header of 32 bytes (magic "NGSP", version, count: 4 bytes each; SH
degree, fractional bits, flags, number of streams: 1 byte each; offset of the table of contents: 4
bytes; 12 zero bytes), extensions, the table (compressed and raw length of each stream, 8 bytes
each), and the streams, each one zstd frame. Versions 1-3 are one gzip stream of the header's first
16 bytes and the same attributes one after the other, then extensions.

Extensions are records of a type, a length (4 bytes each) and that many bytes.
SPZ_ADOBE_coordinate_system says where the axes point; others are skipped and named.

| stream | bytes | value | quantisation |
|---|---|---|---|
| positions | 9 | 3 x 24-bit signed fixed point (version 1: 3 x float16) | 2^-fractional_bits |
| opacities | 1 | u / 255 | 1/255 |
| colours | 3 | degree-0 coefficient = (u / 255 - 0.5) / 0.15 | 0.026, -3.33 to 3.33 |
| scales | 3 | logarithm = u / 16 - 10 | 1/16, -10 to 5.94 |
| rotations | 4 | largest of xyzw: 2 bits; others: sign, 9 bits up to 1/sqrt(2) | 0.0014 |
| | 3 | versions 1 and 2: x, y, z = u / 127.5 - 1, w >= 0 | 0.008 |
| further SH | 3 each | (u - 128) / 128 | 1/128, -1 to 1 |

The format stores x right, y up, z back, PLY files x right, y down, z forward: read and written here
are the numbers of the PLY file of the same Gaussians, as other converters have it, so that y and z
change sign on the way (or what the extension wants).
"""

from __future__ import annotations

import math
import struct
import zlib
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np
import torch
import zstandard

from ..errors import UserError
from ..gaussians import HALF_TURN_SH, Gaussians
from .files import atomic_path
from .foreign import damaged, foreign, read_bytes, warn
from .packing import (
    Floats,
    Words,
    arrays_to_write,
    join_largest,
    join_sh,
    logits,
    require_count,
    require_length,
    sigmoid,
    split_largest,
    to_gaussians,
    to_uint8,
)

MAGIC = b"NGSP"
HEADER = struct.Struct("<4sIIBBBB")
TABLE_OFFSET = struct.Struct("<I12x")
STREAM = struct.Struct("<QQ")
COLOR_SCALE = 0.15
MAGNITUDE = 511  # 9 bits stand for 1/sqrt(2)
TURN = np.array([1.0, -1.0, -1.0])  # y and z change sign between PLY's axes and SPZ's
SH_SIGNS = np.array(HALF_TURN_SH)[1:, None]
ANTIALIASED, EXTENDED = 1, 2  # bits of the flags
# What x, y and z mean in SPZ_ADOBE_coordinate_system: Left or Right, Up or Down, Front or Back; 0
# is unspecified.
AXES = (
    "RUB", "LDB", "RDB", "LUB", "RUB", "LDF", "RDF", "LUF", "RUF",
    "LFD", "RFD", "LFU", "RFU", "LBD", "RBD", "LBU", "RBU",
)  # fmt: skip
AXES_RECORD, CAMERA_RECORD = 0xADBE0003, 0xADBE0002
# in a PLY's axes
DIRECTIONS = {"R": (0, 1), "L": (0, -1), "D": (1, 1), "U": (1, -1), "F": (2, 1), "B": (2, -1)}
MAX_EXTENSIONS = 1 << 20  # bytes
LEVEL = 6  # of zstd: beyond it time doubles for a percent of size


def write_spz(path: Path, gaussians: Gaussians) -> None:
    """Writes one set in its order, version 4.

    Fractional bits are as many as keep the step near 1/65536 of the extent.

    Raises:
        UserError: a number is not finite, or positions exceed 8.3 million units, or the file cannot
            be written.
    """
    arrays = arrays_to_write(path, gaussians)
    extent = float(np.abs(arrays["means"]).max())
    bits_of_extent = max(math.ceil(math.log2(extent)), -8) if extent > 0 else -8
    if bits_of_extent > 22:
        raise UserError(
            f"positions reach {extent:.3g} units, more than SPZ can say, so {path} was not "
            "written; scale them down"
        )
    fraction = min(max(12, 16 - bits_of_extent), 22 - bits_of_extent)
    fixed = np.rint(arrays["means"].astype(np.float64) * TURN * 2.0**fraction).astype("<i4")
    largest, three = split_largest(np.roll(arrays["quats"], -1, 1) * np.append(TURN, 1))
    magnitude = (
        np.rint(np.abs(three) * (MAGNITUDE * math.sqrt(2))).clip(0, MAGNITUDE).astype(np.uint32)
    )
    rotation = largest
    for column in range(3):
        rotation = (
            (rotation << np.uint32(10))
            | ((three[:, column] < 0).astype(np.uint32) << np.uint32(9))
            | magnitude[:, column]
        )
    rest = arrays["sh"][:, 1:]
    streams = [
        fixed.view("u1").reshape(-1, 3, 4)[:, :, :3],
        to_uint8(255 * sigmoid(arrays["logit_opacities"])),
        to_uint8(255 * (COLOR_SCALE * arrays["sh"][:, 0] + 0.5)),
        to_uint8(16 * (arrays["log_scales"] + 10)),
        rotation.astype("<u4"),
        *([to_uint8(128 * rest * SH_SIGNS[: rest.shape[1]] + 128)] if rest.shape[1] else []),
    ]
    compressor = zstandard.ZstdCompressor(level=LEVEL)
    raw = [stream.tobytes() for stream in streams]
    packed = [compressor.compress(stream) for stream in raw]
    with atomic_path(path) as part, part.open("wb") as file:
        file.write(
            HEADER.pack(MAGIC, 4, gaussians.count, gaussians.sh_degree, fraction, 0, len(raw))
        )
        file.write(TABLE_OFFSET.pack(HEADER.size + TABLE_OFFSET.size))
        file.write(
            b"".join(
                STREAM.pack(len(some), len(whole)) for some, whole in zip(packed, raw, strict=True)
            )
        )
        file.write(b"".join(packed))


def read_spz(path: Path) -> Gaussians:
    """Reads SPZ of version 1 to 4; degree 4 is cut to degree 3.

    Raises:
        UserError: it is absent, no SPZ, of a later version, or its header does not fit what it
            holds.
    """
    data = read_bytes(path)
    with foreign(path, "SPZ"):
        is_packed = data[:2] == b"\x1f\x8b"
        start = _gunzip(data, HEADER.size) if is_packed else data[: HEADER.size]
        require_length(path, "header", len(start), HEADER.size)
        magic, version, n, degree, fraction, flags, streams = HEADER.unpack(start)
        if magic != MAGIC:
            raise damaged(path, "is no SPZ file: it does not begin with NGSP")
        if not 1 <= version <= 4:
            raise UserError(
                f"{path} is SPZ of version {version}; versions 1 to 4 are read, save it as one of "
                "those"
            )
        if degree > 4 or fraction > 30:
            raise damaged(path, f"claims SH degree {degree} and {fraction} fractional bits")
        require_count(path, n, len(data), (degree + 1) ** 2)
        sizes = [
            6 if version == 1 else 9,
            1,
            3,
            3,
            4 if version >= 3 else 3,
            3 * ((degree + 1) ** 2 - 1),
        ]
        lengths = [n * size for size in sizes]
        if version == 4:
            parts, records = _zstd_streams(path, data, streams, lengths)
        else:
            end = HEADER.size + sum(lengths)
            body = _gunzip(data, end + MAX_EXTENSIONS) if is_packed else data
            require_length(path, "Gaussians", len(body), end)
            records = body[end:] if flags & EXTENDED else b""
            parts = [
                body[begin:end] for begin, end in pairwise(accumulate([HEADER.size, *lengths]))
            ]
        positions, alphas, colors, scales, rotations, rest = (
            np.frombuffer(part, "u1") for part in parts
        )
        if version == 1:
            means = positions.view("<f2").reshape(n, 3).astype(np.float64)
        else:
            wide = np.zeros((n, 3, 4), "u1")
            # in the high bytes, so that the shift back spreads the sign
            wide[:, :, 1:] = positions.reshape(n, 3, 3)
            means = (wide.view("<i4")[..., 0] >> 8) * 2.0**-fraction
        xyzw = (
            _smallest_three(rotations.view("<u4"))
            if version >= 3
            else _first_three(rotations.reshape(n, 3))
        )
        higher = (rest.reshape(n, -1, 3)[:, :15].astype(np.float32) - 128) / 128 if degree else None
        if flags & ANTIALIASED:
            warn(
                f"{path} was trained with antialiasing, which is drawn without: fine parts come "
                "out a little denser"
            )
        gaussians = to_gaussians(
            means=means * TURN,
            quats=np.roll(xyzw * np.append(TURN, 1), 1, 1),
            log_scales=scales.reshape(n, 3) / 16.0 - 10,
            logit_opacities=logits(alphas / 255.0),
            sh=join_sh(
                (colors.reshape(n, 3) / 255.0 - 0.5) / COLOR_SCALE,
                None if higher is None else higher * SH_SIGNS[: higher.shape[1]].astype(np.float32),
            ),
        )
        axes = _axes(path, records)
        return gaussians if axes == "RUB" else gaussians.half_turn().turned(_to_ply(axes))


def _to_ply(axes: str) -> torch.Tensor:
    """The matrix that takes vectors in these axes ("RUB") to those of a PLY file, "RDF"."""
    matrix = torch.zeros(3, 3, dtype=torch.float64)
    for column, letter in enumerate(axes):
        row, sign = DIRECTIONS[letter]
        matrix[row, column] = sign
    return matrix


def _axes(path: Path, records: bytes) -> str:
    """Returns the axes by the records of the extensions; "RUB" where none says so."""
    found, offset = "RUB", 0
    while offset + 8 <= len(records):
        kind, length = struct.unpack_from("<II", records, offset)
        require_length(path, "extensions", len(records), offset + 8 + length)
        if kind == AXES_RECORD and length >= 4:
            (number,) = struct.unpack_from("<I", records, offset + 8)
            if number >= len(AXES):
                raise UserError(
                    f"{path} names coordinate system {number}, of which 0 to 16 are known; save it "
                    "without"
                )
            found = AXES[number]
        elif kind != CAMERA_RECORD:  # limits of a viewer's camera change nothing of the splats
            warn(
                f"{path} holds an extension of type 0x{kind:08X}, which is not known and was "
                "skipped"
            )
        offset += 8 + length
    return found


def _gunzip(data: bytes, limit: int) -> bytes:
    """At most ``limit`` bytes of a gzip stream: what the header claims bounds what is unpacked."""
    try:
        return zlib.decompressobj(16 + zlib.MAX_WBITS).decompress(data, limit)
    except zlib.error as error:
        raise ValueError(str(error)) from error


def _zstd_streams(
    path: Path, data: bytes, count: int, lengths: list[int]
) -> tuple[list[bytes], bytes]:
    """Returns the raw streams of version 4 (an absent SH stream is empty), and the extensions."""
    wanted = [length for length in lengths if length]
    if count < len(wanted):
        raise damaged(path, f"has {count} streams, not {len(wanted)}")
    begin = HEADER.size + TABLE_OFFSET.size
    require_length(path, "header", len(data), begin)
    (table,) = TABLE_OFFSET.unpack_from(data, HEADER.size)
    offset = table + count * STREAM.size
    require_length(path, "streams", len(data), offset)
    parts = []
    for i, length in enumerate(wanted):
        packed, raw = STREAM.unpack_from(data, table + i * STREAM.size)
        require_length(path, "streams", len(data), offset + packed)
        if raw != length:
            raise damaged(path, f"has {raw} bytes in stream {i} where its Gaussians need {length}")
        try:
            # read() of one byte more than fits: neither a frame that lies about its size nor a bomb
            # is unpacked further
            with zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(
                data[offset : offset + packed]
            ) as reader:
                part = reader.read(length + 1)
        except zstandard.ZstdError as error:
            raise ValueError(str(error)) from error
        if len(part) != length:
            raise damaged(
                path, f"has {len(part)} bytes in stream {i} where its Gaussians need {length}"
            )
        parts.append(part)
        offset += packed
    return [*parts, *[b""] * (len(lengths) - len(parts))], data[begin:table]


def _smallest_three(words: Words) -> Floats:
    fields = np.stack([words >> np.uint32(20), words >> np.uint32(10), words], 1)
    magnitude = (fields & np.uint32(MAGNITUDE)) / (MAGNITUDE * math.sqrt(2))
    return join_largest(
        words >> np.uint32(30), np.where(fields & np.uint32(512), -magnitude, magnitude)
    )


def _first_three(xyz: Words) -> Floats:
    return join_largest(np.full(len(xyz), 3, np.uint32), xyz / 127.5 - 1)
