"""What the commands print."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def say(text: str = "") -> None:
    """Print a line on standard output."""
    print(text)  # noqa: T201 - the command line is where printing belongs


def note(text: str) -> None:
    """Print a line on standard error, beside the results."""
    print(f"robustad: {text}", file=sys.stderr)  # noqa: T201


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, title: str = "") -> None:
    """Print a table; in a pipe it is as wide as it needs to be, without colours."""
    from rich.table import Table
    from rich.text import Text

    shown = Table(title=title or None, box=None, pad_edge=False, header_style="bold")
    for column in columns:
        shown.add_column(column, overflow="fold")
    for row in rows:
        shown.add_row(*(Text(cell) for cell in row))  # Text: a file name in [brackets] is no style
    show(shown)


def show(renderable: Any) -> None:
    """Print what rich can draw."""
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else 200, highlight=False).print(renderable)


def warn(verdicts: Iterable[Any]) -> None:
    """Print the health checks that a detector did not pass."""
    for verdict in verdicts:
        if verdict.passed is False:
            facts({f"health check {verdict.name} failed": verdict.why})


def promise(calibration: Any) -> str:
    """A threshold, and how many false alarms it stands for."""
    from robustad.calibration import METHOD, false_alarm_bound

    rate, count = calibration.max_false_alarm_rate, calibration.num_images
    text = f"{calibration.threshold:.6g} ({calibration.method}, from {count:,} images: at most {rate:.2%} false alarms"
    if calibration.method != METHOD:
        return f"{text})"
    return f"{text} expected, and with 95 % confidence no more than {false_alarm_bound(count, rate):.2%})"


def facts(values: Mapping[str, object]) -> None:
    """Print ``name: value`` lines, values in one column."""
    width = max(map(len, values)) + 2
    for name, value in values.items():
        say(f"{name + ':':<{width}}{value}")
