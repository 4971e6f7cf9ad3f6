"""Where the weights of a family are.

A folder or file on this machine, or a model of the Hugging Face hub.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit
from urllib.request import getproxies

from ..errors import UserError

HUB = "https://huggingface.co"
PATIENCE = 1.0  # seconds until a hub that does not answer counts as absent


def offline() -> bool:
    """Whether the hub may not or cannot be asked.

    Takes a second at most, even where names are resolved by nobody.
    """
    if told_to_stay_offline():
        return True
    door = urlsplit(getproxies().get("https") or os.environ.get("HF_ENDPOINT") or HUB)
    answered = []

    def knock() -> None:
        with (
            suppress(OSError),
            socket.create_connection((door.hostname, door.port or 443), timeout=PATIENCE),
        ):
            answered.append(True)

    # a name server that does not answer holds its caller for longer than we wait
    asking = Thread(target=knock, daemon=True)
    asking.start()
    asking.join(PATIENCE)
    return not answered


def told_to_stay_offline() -> bool:
    """Whether the environment forbids to ask the hub."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def find_model(
    where: str, *, family: str, licence: str, patterns: Sequence[str] | None = None
) -> Path:
    """The folder or file of a model.

    ``where`` itself when it exists, else the hub model of that id, fetched once.

    Args:
        where: a path, or ``owner/name``.
        family: what to call it in sentences.
        licence: printed before anything is fetched.
        patterns: of the files that are wanted of a hub model; None: all.

    Raises:
        UserError: there is neither, or the hub cannot be reached; within a second or two.
    """
    path = Path(where).expanduser()
    if path.exists():
        return path
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", where):
        raise UserError(
            f"{where or 'no path'} is no folder or file of {family} weights; name one, or a hub id "
            "like owner/model"
        )
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ImportError:
        raise UserError(
            f"{family} needs the packages of the extra [diffusion]; run: pip install "
            "'gs4d[diffusion]'"
        ) from None
    wanted = list(patterns) if patterns is not None else None
    try:
        return Path(snapshot_download(where, allow_patterns=wanted, local_files_only=True))
    except LocalEntryNotFoundError:
        pass
    if offline():
        raise UserError(
            f"{family} weights {where} are not on this machine and the hub cannot be reached; on a "
            "machine with network run: "
            f"hf download {where}, and give the folder as {family}:FOLDER"
        )
    print(f"fetching {where} from the Hugging Face hub; licence: {licence}")
    try:
        return Path(snapshot_download(where, allow_patterns=wanted))
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise UserError(
            f"{family} weights {where} cannot be fetched ({str(error).splitlines()[0]}); check the "
            "id"
        ) from error
