"""The asset as one HTML page with everything inside.

It plays without a server, a network or anything installed.
"""

from __future__ import annotations

import base64
import html
import re
from pathlib import Path
from tempfile import TemporaryDirectory

from ..asset import Asset
from ..io.files import atomic_path
from .glb import write_glb

TEMPLATE = Path(__file__).parent / "page_assets" / "viewer.html"
"""Built from viewer/ by `make viewer`. Its policy lets no script or style run but its own, which it
names by their hashes."""


def write_html(
    path: Path,
    asset: Asset,
    title: str | None = None,
    *,
    frames: int | None = None,
    fps: float = 8.0,
) -> None:
    """Writes a page that plays ``asset``: the bytes of its .glb inside, no request to anywhere.

    Args:
        path: the file to write, ``*.html``.
        asset: what the page plays.
        title: heading and name of saved pictures; None takes the file's name. Any text is safe.
        frames: as for :func:`gs4d.export.glb.write_glb`.
        fps: likewise.

    Raises:
        UserError: the file cannot be written.
    """
    page = page_of(
        path.stem if title is None else title, glb=glb_bytes(asset, frames=frames, fps=fps)
    )
    with atomic_path(path) as part:
        part.write_text(page, encoding="utf-8")


def glb_bytes(asset: Asset, *, frames: int | None = None, fps: float = 8.0) -> bytes:
    """The file that :func:`gs4d.export.glb.write_glb` writes."""
    with TemporaryDirectory(prefix="gs4d-") as folder:
        path = Path(folder) / "asset.glb"
        write_glb(path, asset, frames=frames, fps=fps)
        return path.read_bytes()


def page_of(title: str, *, glb: bytes | None) -> str:
    """The page, with ``glb`` inside.

    Or with None one that fetches ``asset.glb`` and listens to ``events`` beside itself.
    """
    printable = title.encode("utf-8", "replace").decode()  # names of files need not be Unicode
    values = {
        "TITLE": html.escape("".join(c if c.isprintable() else " " for c in printable)),
        "CONNECT": "'none'" if glb is not None else "'self'",
        "SOURCE": "" if glb is not None else "asset.glb",
        "ASSET": base64.b64encode(glb or b"").decode(),
    }
    # In one pass, so that no value is taken for a place of another.
    return re.sub(
        "@@([A-Z]+)@@", lambda place: values[place[1]], TEMPLATE.read_text(encoding="utf-8")
    )
