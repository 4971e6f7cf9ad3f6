"""Who may ask the windows in the browser.

Programs of this machine and the windows' own pages, not other websites.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from http import HTTPStatus

NAMES = ("127.0.0.1", "localhost", "[::1]")
HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\[\]:@/?#\\\s]+)(:[0-9]{1,5})?")


def refusal(hosts: Sequence[str], origins: Sequence[str]) -> tuple[HTTPStatus, str] | None:
    """The status and the sentence of a refusal, or None for who may ask.

    A website reaches this machine by a name of its own that was made to point here, which its Host
    header says, or from its own page, which its Origin header says; browsers send that with every
    WebSocket. Programs need not send one.

    Args:
        hosts: the request's Host headers.
        origins: its Origin headers.
    """
    if len(hosts) != 1 or (match := HOST.fullmatch(hosts[0])) is None:
        return HTTPStatus.BAD_REQUEST, "one Host header with a name is wanted"
    if match[1].lower() not in NAMES:
        return HTTPStatus.FORBIDDEN, "only served under the name localhost"
    if any(
        origin.lower() not in (f"http://{hosts[0].lower()}", f"https://{hosts[0].lower()}")
        for origin in origins
    ):
        return HTTPStatus.FORBIDDEN, "only served to its own page"
    return None
