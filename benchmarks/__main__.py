"""Measure the claims about speed and print them: ``python -m benchmarks [--full] [CLAIM...]`` (= ``make bench``).

Exits with 1, after the results were written, if a ratio is below what ``benchmarks/claims.toml`` says. What cannot be
measured does not stop the rest. All claims together are joined by what other commands measured (`benchmarks.recorded`).
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shlex
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from benchmarks import (
    claims,
    cobra_step,
    pgd_evaluation,
    pixel_metrics,
    predict,
    pseudo_anomalies,
    roofline,
    training_step,
)
from benchmarks.recorded import recorded
from robustad._checks import check_choice
from robustad._memory import keep_freed_memory
from robustad._precision import bfloat16_pays
from robustad.evaluation import BenchmarkRow, Results, machine_description

CLAIMS: dict[str, Callable[..., list[BenchmarkRow]]] = {
    "roofline": roofline.measure,
    "pseudo-anomalies": pseudo_anomalies.measure,
    "predict": predict.measure,
    "pixel-metrics": pixel_metrics.measure,
    "pgd-evaluation": pgd_evaluation.measure,
    "cobra-step": cobra_step.measure,
    "train-step": training_step.measure,
}
"""What is measured, in this order: what takes longest at the published size comes last."""
ROOT = Path(__file__).parents[1]
KEPT = Path("runs/bench-full")
"""Finished claims of a full run, in a folder for each state of the code and the machine."""
RECORDED = Path("results")
"""Where all claims go, and where other commands write what they measure."""
_CHANGED = "code was changed while it was measured; begin again, and change none until the end"


def main() -> None:
    """Run the named benchmarks, all by default."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("claims", nargs="*", metavar="CLAIM", help=f"any of {', '.join(CLAIMS)}; default: all")
    parser.add_argument("--full", action="store_true", help="published sizes, hours; goes on where it was interrupted")
    parser.add_argument("--out", type=Path, help="JSON file; default: one of results/bench*.json, for all claims")
    given = parser.parse_args()
    started, quick = datetime.now(UTC), not given.full
    torch.set_num_threads(1)
    keep_freed_memory()
    chosen = [check_choice("claim", claim, CLAIMS) for claim in given.claims] or list(CLAIMS)
    found, failed = _measured(chosen, quick=quick)
    everything = set(found) == set(CLAIMS)
    rows = [row for results in found.values() for row in results.benchmarks]
    elsewhere = recorded(RECORDED, {row.claim for row in rows}) if everything else {}
    rows += [row for results in elsewhere.values() for row in results.benchmarks]
    out = given.out or (record(quick=quick) if everything else None)
    if out is not None and not failed:
        command = shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]])
        details = {
            "threads": 1,
            "full": given.full,
            "seconds": {claim: results.wall_seconds for claim, results in found.items()},
            "commits": {claim: results.commit for claim, results in (found | elsewhere).items()},
            "machines": {claim: results.machine for claim, results in elsewhere.items()},
        }
        Results.of_run(out.stem, [], command=command, started=started, details=details, benchmarks=rows).write(out)
        print(f"wrote {out}; now: python tools/make_tables.py and python tools/speed_picture.py", file=sys.stderr)
    least = claims.claimed(record(quick=quick).stem)
    show(rows, least)
    failed += claims.failures(rows, least, everything=everything)
    sys.exit("\n".join(failed) if failed else 0)


def record(*, quick: bool) -> Path:
    """The file of all claims: ``bench.json``, ``bench-full.json``, and ``-bfloat16`` on machines that are faster in it.

    Ratios of the two kinds of machine differ by more than noise: each has a file, and claims, of its own.
    """
    size, kind = "" if quick else "-full", "-bfloat16" if bfloat16_pays() else ""
    return RECORDED / f"bench{size}{kind}.json"


def _measured(chosen: Iterable[str], *, quick: bool) -> tuple[dict[str, Results], list[str]]:
    """Results by claim, and a line for each that could not be measured."""
    found, failed, code = dict[str, Results](), list[str](), state()
    for claim in chosen:
        if not quick and state() != code:
            return found, [*failed, f"{claim} and what follows were not measured: {_CHANGED}"]
        try:
            found[claim] = measured(claim, code, quick=quick)
        except Exception as error:  # noqa: BLE001 - hours of others must not be lost
            traceback.print_exc()
            failed.append(f"{claim} could not be measured: {' '.join(str(error).split())}")
    return found, failed


def measured(claim: str, code: str, *, quick: bool) -> Results:
    """The rows of one claim; those of a full run are kept, and not measured twice.

    Args:
        claim: A key of `CLAIMS`.
        code: What `state` gave when this process began.
        quick: Size.

    Raises:
        RuntimeError: If code was changed since: what was measured belongs to neither state.
    """
    path = KEPT / code / f"{claim}.json"
    if not quick and path.is_file():
        print(f"{claim} was measured before: {path}", file=sys.stderr)
        return Results.read(path)
    print(f"measuring {claim}", file=sys.stderr)
    started = datetime.now(UTC)
    rows = CLAIMS[claim](quick=quick)
    command = shlex.join(["python", "-m", "benchmarks", *["--full"] * (not quick), claim])
    results = Results.of_run(claim, [], command=command, started=started, benchmarks=rows)
    if not quick:
        if state() != code:
            raise RuntimeError(_CHANGED)
        results.write(path)
    return results


def state() -> str:
    """A name for what a measurement depends on: all code of the package and of the benchmarks, machine and rivals."""
    digest = hashlib.sha256(f"{machine_description()} {find_spec('anomalib') is not None}".encode())
    for path in sorted([*ROOT.glob("src/**/*.py"), *ROOT.glob("benchmarks/*.py")]):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def show(rows: Iterable[BenchmarkRow], least: Mapping[str, float]) -> None:
    """Print the rows as a table."""
    table = Table("claim", "baseline", "ours", "ratio", "share of peak")
    for row in rows:
        claimed = f" (claimed: {least[row.claim]:g})" if row.claim in least else ""
        share = "–" if row.share_of_peak is None else f"{row.share_of_peak:.0%}"
        baseline = "not reached" if row.baseline is None else f"{row.baseline:,.3g} {row.unit}"
        ratio = "–" if row.ratio is None else f"{row.ratio:.2f}{claimed}"
        table.add_row(row.claim, baseline, f"{row.ours:,.3g} {row.unit}", ratio, share)
    Console(width=None if sys.stdout.isatty() else 160).print(table)  # a log is not folded to 80 columns


if __name__ == "__main__":
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # before anybody asks: rivals run on the processor, and `auto` is about it
    main()
