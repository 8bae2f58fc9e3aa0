"""No network: what is read from a file must not fetch anything, least of all code."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_LOCK = threading.RLock()


@contextmanager
def no_network() -> Iterator[list[str]]:
    """Refuse this thread's connections; the hosts that it asked for are listed."""
    wanted: list[str] = []
    with _LOCK:
        look_up, connect, owner = socket.getaddrinfo, socket.socket.connect, threading.get_ident()

        def refuse(host: Any) -> None:
            if threading.get_ident() == owner:
                wanted.append(host.decode() if isinstance(host, bytes) else str(host))
                raise OSError(f"no connection to {wanted[-1]}: nothing is fetched here")

        def refuse_name(host: Any, *args: Any, **options: Any) -> Any:
            refuse(host)
            return look_up(host, *args, **options)

        def refuse_address(self: socket.socket, address: Any) -> None:
            refuse(address[0] if isinstance(address, tuple) else address)
            connect(self, address)

        socket.getaddrinfo = refuse_name
        socket.socket.connect = refuse_address  # type: ignore[method-assign, assignment]
        try:
            yield wanted
        finally:
            socket.getaddrinfo = look_up
            socket.socket.connect = connect  # type: ignore[method-assign]
