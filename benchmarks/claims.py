"""What the documents claim at least, ``claims.toml``, against what was measured."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path

from robustad.evaluation import BenchmarkRow

CLAIMED = Path(__file__).with_name("claims.toml")


def claimed(name: str, path: Path = CLAIMED) -> dict[str, float]:
    """The least ratio by the claim of its row, for the file of results of that name: none that was never recorded."""
    section = tomllib.loads(path.read_text(encoding="utf-8")).get(name, {})
    return {claim: float(ratio) for claim, ratio in section.items()}


def failures(rows: Iterable[BenchmarkRow], least: Mapping[str, float], *, everything: bool) -> list[str]:
    """One line for each claim that is not reached, and, if everything was measured, for each that nothing measures.

    Args:
        rows: What was measured; rows without a claim cannot fail.
        least: What `claimed` gave.
        everything: Whether all benchmarks have run.
    """
    measured = {row.claim: row.ratio for row in rows if row.ratio is not None}
    lines = [
        f"{claim}: claimed at least {ratio:g} times, measured {measured[claim]:g}"
        for claim, ratio in least.items()
        if measured.get(claim, ratio) < ratio
    ]
    if everything:
        lines += [
            f"{claim}: claimed at least {ratio:g} times, but no benchmark measures it; correct {CLAIMED.name}"
            for claim, ratio in least.items()
            if claim not in measured
        ]
    return lines
