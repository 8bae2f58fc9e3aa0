"""Results in one long format: what was measured, on what, under which attack, by which commit on which machine.

Every published figure is generated from such a file. Undefined is a blank with a reason: never NaN, never 0, never 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from robustad.evaluation.machine import current_commit, machine_description
from robustad.evaluation.rows import (
    BenchmarkRow,
    Row,
    aggregate_seeds,
    check_finite,
    check_text,
    is_number,
    names,
    select,
)
from robustad.files import read_json, write_json

__all__ = [
    "BenchmarkRow",
    "Results",
    "Row",
    "aggregate_seeds",
    "current_commit",
    "machine_description",
    "select",
]


@dataclass(frozen=True, kw_only=True)
class Results:
    """The rows of one run and how they came to be.

    Attributes:
        name: Name of the run, e.g. the file's stem.
        command: The command that reproduces it.
        commit: The commit, or the version where there is none (`current_commit`).
        machine: One line about the machine (`machine_description`).
        started: Start in ISO 8601, with time zone.
        wall_seconds: Duration.
        rows: The figures.
        benchmarks: Comparisons of speed, memory or size.
        details: Anything else that JSON can hold, e.g. what an ``ensemble`` consisted of.

    Raises:
        ValueError: If a field is missing, of the wrong kind, or holds NaN.
    """

    name: str
    command: str
    commit: str
    machine: str
    started: str
    wall_seconds: float
    rows: tuple[Row, ...] = ()
    benchmarks: tuple[BenchmarkRow, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "rows", tuple(self.rows))
        object.__setattr__(self, "benchmarks", tuple(self.benchmarks))
        for name in ("name", "command", "commit", "machine", "started"):
            check_text(name, getattr(self, name))
        if not (is_number(self.wall_seconds) and 0 <= self.wall_seconds < math.inf):
            raise ValueError(f"`wall_seconds` must be a number of seconds, got {self.wall_seconds!r}")
        _check_moment(self.started)
        check_finite(self.details, "details")

    @classmethod
    def of_run(
        cls,
        name: str,
        rows: Iterable[Row],
        *,
        command: str,
        started: datetime,
        details: Mapping[str, Any] | None = None,
        benchmarks: Iterable[BenchmarkRow] = (),
    ) -> Self:
        """The results of a run that ends now: fills in commit, machine and duration.

        Args:
            name: Name of the run.
            rows: The figures.
            command: The command that reproduces it.
            started: When it began, with time zone (``datetime.now(UTC)``).
            details: Anything else.
            benchmarks: Comparisons.

        Returns:
            The results.
        """
        seconds = (datetime.now(UTC) - started).total_seconds()
        return cls(
            name=name,
            command=command,
            commit=current_commit(),
            machine=machine_description(),
            started=started.isoformat(timespec="seconds"),
            wall_seconds=round(seconds, 3),
            rows=tuple(rows),
            benchmarks=tuple(benchmarks),
            details=dict(details or {}),
        )

    def write(self, path: str | Path) -> None:
        """Write as JSON, atomically; blank optional fields are left out, undefined figures are null."""
        head = {name: getattr(self, name) for name in names(Results) if name not in ("rows", "benchmarks", "details")}
        rows = [_row_to_json(row) for row in self.rows] + [asdict(row) for row in self.benchmarks]
        write_json(path, {**head, "rows": rows, "details": self.details})

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read and validate.

        Args:
            path: A file that `write` made.

        Returns:
            The results.

        Raises:
            ValueError: If it is not JSON, or a field or row breaks the schema; the text names the file and the row.
        """
        try:
            content = read_json(path)
            _check_keys(content, names(Results), "the file")
            rows = [_row_from_json(item, f"rows[{index}]") for index, item in enumerate(content.pop("rows", []))]
            content["rows"] = tuple(row for row in rows if isinstance(row, Row))
            content["benchmarks"] = tuple(row for row in rows if isinstance(row, BenchmarkRow))
            return cls(**content)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path} is not a results file: {error}") from error


def _check_moment(text: str) -> None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise ValueError(
            f"`started` must be ISO 8601 with a time zone, got {text!r}; use datetime.now(UTC).isoformat()"
        )


def _check_keys(item: Any, known: Iterable[str], where: str) -> None:
    if not isinstance(item, dict):
        raise ValueError(f"{where} must be a JSON object, got {type(item).__name__}")
    for key in item:
        if key not in known:
            raise ValueError(f"{where} has the unknown field {key!r}; known: {', '.join(known)}")


def _row_to_json(row: Row) -> dict[str, Any]:
    blank = "value" if row.seeds is None else "mean"  # the figure itself stays visible as null
    return {name: value for name, value in asdict(row).items() if value is not None or name == blank}


def _row_from_json(item: Any, where: str) -> Row | BenchmarkRow:
    kind = BenchmarkRow if isinstance(item, dict) and "claim" in item else Row
    _check_keys(item, names(kind), where)
    try:
        return kind(**item)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{where}: {error}") from error
