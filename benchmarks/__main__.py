"""Measure the claims about speed and print them: ``python -m benchmarks [--full] [CLAIM...]`` (= ``make bench``)."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from benchmarks import cobra_step, pixel_metrics, pseudo_anomalies, training_step
from robustad._checks import check_choice
from robustad._memory import keep_freed_memory
from robustad.evaluation import BenchmarkRow, Results

CLAIMS: dict[str, Callable[..., list[BenchmarkRow]]] = {
    "pseudo-anomalies": pseudo_anomalies.measure,
    "train-step": training_step.measure,
    "cobra-step": cobra_step.measure,
    "pixel-metrics": pixel_metrics.measure,
}
OUT = Path("results/bench.json")


def main() -> None:
    """Run the named benchmarks, all by default."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("claims", nargs="*", metavar="CLAIM", help=f"any of {', '.join(CLAIMS)}; default: all")
    parser.add_argument("--full", action="store_true", help="published sizes and more rounds: half an hour and more")
    parser.add_argument("--out", type=Path, default=None, help=f"JSON file; default: {OUT} if all claims are measured")
    given = parser.parse_args()
    started = datetime.now(UTC)
    torch.set_num_threads(1)
    keep_freed_memory()
    chosen = [check_choice("claim", claim, CLAIMS) for claim in given.claims] or list(CLAIMS)
    rows: list[BenchmarkRow] = []
    for claim in chosen:
        print(f"measuring {claim}", file=sys.stderr)
        rows += CLAIMS[claim](quick=not given.full)
    show(rows)
    out = given.out or (OUT if len(chosen) == len(CLAIMS) else None)
    if out is not None:
        command = shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]])
        details = {"threads": 1, "full": given.full}
        results = Results.of_run(out.stem, [], command=command, started=started, details=details)
        replace(results, benchmarks=tuple(rows)).write(out)
        print(f"wrote {out}; python tools/make_tables.py puts it into the documents", file=sys.stderr)


def show(rows: Iterable[BenchmarkRow]) -> None:
    """Print the rows as a table."""
    table = Table("claim", "baseline", "ours", "unit", "times better")
    for row in rows:
        table.add_row(row.claim, f"{row.baseline:,.3g}", f"{row.ours:,.3g}", row.unit, f"{row.ratio:.1f}")
    Console().print(table)


main()
