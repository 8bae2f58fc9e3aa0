"""No network: what is read from a file must not fetch anything, least of all code."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn
from unittest.mock import patch

_LOCK = threading.RLock()


@contextmanager
def no_network() -> Iterator[list[str]]:
    """Refuse all connections of this process, whatever thread asks; the hosts that were asked for are listed."""
    wanted: list[str] = []

    def refuse(host: Any) -> NoReturn:
        wanted.append(host.decode() if isinstance(host, bytes) else str(host))
        raise OSError(f"no connection to {wanted[-1]}: nothing is fetched here")

    def refuse_name(host: Any, *_args: Any, **_options: Any) -> NoReturn:
        refuse(host)

    def refuse_address(_self: socket.socket, address: Any) -> NoReturn:
        refuse(address[0] if isinstance(address, tuple) else address)

    with (
        _LOCK,
        patch.object(socket, "getaddrinfo", refuse_name),
        patch.object(socket.socket, "connect", refuse_address),
        patch.object(socket.socket, "connect_ex", refuse_address),
    ):
        yield wanted
