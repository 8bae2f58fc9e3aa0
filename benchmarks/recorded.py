"""Comparisons that other commands measure, as ``results/`` has them: hours of training, or anomalib's environment."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from pathlib import Path

from robustad.evaluation import Results

FILES = ("predict.json", "time-to-robustness.json")
"""``.venv-anomalib/bin/python -m benchmarks predict --out results/predict.json``, and evidence of the name."""


def recorded(folder: Path, measured: Collection[str]) -> dict[str, Results]:
    """Results by file that hold a claim which was not measured here; a file that is missing has none."""
    found = {name: Results.read(folder / name) for name in FILES if (folder / name).is_file()}
    rest = {
        name: dataclasses.replace(results, benchmarks=[row for row in results.benchmarks if row.claim not in measured])
        for name, results in found.items()
    }
    return {name: results for name, results in rest.items() if results.benchmarks}
