"""Progress of long work on standard error: a bar with the time left on a terminal, a rare line anywhere else."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from types import TracebackType
from typing import TYPE_CHECKING, ClassVar, Self, TextIO, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import ProgressColumn, TaskID

Item = TypeVar("Item")


class Progress:
    """How far a piece of work is and how long it will still take.

    On a terminal this is a live bar. Where standard error is a file or a pipe nothing is written for the first
    ``interval`` seconds, and then one line each ``interval`` seconds: logs stay readable and short work stays silent.
    Only the outermost one shows: a bar opened while another one is live stays silent.

    Args:
        description: What is being done, e.g. ``"epoch 3"``.
        total: Number of steps, or None if unknown (then there is no time left to show).
        unit: What one step is, for the line and the bar; ``"B"`` shows sizes in bytes.
        initial: Steps done before, e.g. bytes already on disk; they do not count for the speed.
        enabled: False keeps silent, e.g. on all ranks but the first.
        interval: Seconds between lines where there is no terminal.
        stream: Where to write; standard error if None.
    """

    _live: ClassVar[bool] = False

    def __init__(
        self,
        description: str,
        total: float | None = None,
        *,
        unit: str = "",
        initial: float = 0,
        enabled: bool = True,
        interval: float = 30.0,
        stream: TextIO | None = None,
    ) -> None:
        self.description = description
        self.total = total
        self.completed = initial
        self._unit = unit
        self._initial = initial
        self._enabled = enabled
        self._interval = interval
        self._stream = sys.stderr if stream is None else stream
        self._note = ""
        self._start = self._last_line = time.monotonic()
        self._bar: RichProgress | None = None
        self._task: TaskID | None = None
        self._owner = False

    def __enter__(self) -> Self:
        self._start = self._last_line = time.monotonic()
        if self._enabled and not Progress._live:
            # The guard also covers lines: two loops writing in turn would be noise.
            Progress._live = self._owner = True
            if self._stream.isatty():
                self._open_bar()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        if self._owner:
            Progress._live = self._owner = False

    def update(self, advance: float = 1, *, note: str | None = None) -> None:
        """Count ``advance`` more steps; ``note`` is a short text beside the bar, such as the loss (None keeps it)."""
        self.move_to(self.completed + advance, note=note)

    def move_to(self, completed: float, *, total: float | None = None, note: str | None = None) -> None:
        """Set the number of finished steps (it may go back) and, if given, the total and the note."""
        self.completed = completed
        self.total = self.total if total is None else total
        self._note = self._note if note is None else note
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=completed, total=self.total, note=self._note)
        elif self._owner:
            self._write_line()

    def announce(self, text: str) -> None:
        """Write a line of its own, e.g. what is about to be done and what it will take."""
        if self._bar is not None:
            self._bar.console.print(f"{self.description}: {text}", markup=False, highlight=False)
        elif self._owner:
            self._stream.write(f"{self.description}: {text}\n")
            self._stream.flush()

    def _open_bar(self) -> None:
        from rich.console import Console
        from rich.progress import Progress as RichProgress

        self._bar = RichProgress(*_columns(self._unit), console=Console(file=self._stream), transient=True)
        self._task = self._bar.add_task(self.description, total=self.total, completed=int(self.completed), note="")
        self._bar.start()

    def _write_line(self) -> None:
        now = time.monotonic()
        if now - self._last_line < self._interval:
            return
        self._last_line = now
        self._stream.write(self._line(now - self._start) + "\n")
        self._stream.flush()

    def _line(self, elapsed: float) -> str:
        parts = [f"{self.description}: {_amount(self.completed, self._unit)}"]
        if self.total:
            done = _amount(self.completed, "B" if self._unit == "B" else "")  # "4 of 8 images", but "3 MB of 2 GB"
            share = f"{self.completed / self.total:.0%}"
            parts = [f"{self.description}: {done} of {_amount(self.total, self._unit)} ({share})"]
            gained = self.completed - self._initial
            if gained > 0:
                parts.append(f"{duration_text((self.total - self.completed) * elapsed / gained)} left")
        if self._note:
            parts.append(self._note)
        return ", ".join(parts)


def progress(iterable: Iterable[Item], description: str, total: float | None = None) -> Iterator[Item]:
    """Yield from ``iterable`` and show how far it is.

    Args:
        iterable: Any iterable; it is consumed lazily.
        description: What is being done.
        total: Number of items; taken from ``len`` if None and the iterable has one.
    """
    if total is None and isinstance(iterable, Sized):
        total = len(iterable)
    with Progress(description, total) as shown:
        for item in iterable:
            yield item
            shown.update()


def _columns(unit: str) -> list[ProgressColumn | str]:
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    # markup=False: descriptions hold file names, and "[x]" in one would be read as a style.
    text = TextColumn("{task.description}", markup=False)
    note = TextColumn("{task.fields[note]}", markup=False)
    if unit == "B":
        return [text, BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn(), note]
    return [text, BarColumn(), MofNCompleteColumn(), TextColumn(unit), TimeRemainingColumn(), note]


def _amount(count: float, unit: str) -> str:
    if unit != "B":
        return f"{count:,.10g} {unit}".rstrip()
    for name in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {name}"
        count /= 1000
    return f"{count:.1f} GB"


def duration_text(seconds: float) -> str:
    """Seconds as people say it: ``90 s``, ``12 min``, ``3 h 5 min``."""
    total = max(round(seconds), 0)
    if total < 120:
        return f"{total} s"
    if total < 7200:
        return f"{total // 60} min"
    return f"{total // 3600} h {total % 3600 // 60} min"
