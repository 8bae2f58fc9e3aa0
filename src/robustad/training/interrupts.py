"""Ctrl-C that waits until nothing is half done."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType


@contextmanager
def interrupts_wait() -> Iterator[Callable[[], bool]]:
    """A block in which the first Ctrl-C only leaves word, and the second raises `KeyboardInterrupt` where it is.

    Other threads than the main one get no signals; a handler of somebody else's is left in place.

    Yields:
        Whether Ctrl-C was pressed.
    """
    asked: list[int] = []
    usual = signal.default_int_handler
    mine = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is usual

    def handler(number: int, frame: FrameType | None) -> None:
        if asked:
            usual(number, frame)
        asked.append(number)
        with suppress(OSError, RuntimeError, ValueError):  # nobody may read it, or it may be half way through a line
            print("\nfinishing this update; Ctrl-C again to stop at once", file=sys.stderr)  # noqa: T201

    if mine:
        signal.signal(signal.SIGINT, handler)
    try:
        yield lambda: bool(asked)
    finally:
        if mine:
            signal.signal(signal.SIGINT, usual)
