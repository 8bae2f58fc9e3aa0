"""Tables of measured figures: each is a view of one file under ``results/``."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from within_modules import MODULE, WITHIN_MODULE

from robustad.evaluation import (
    ABSTENTIONS,
    ALL,
    CERTIFIED,
    FALSE_ALARMS,
    SMOOTHED,
    BenchmarkRow,
    Results,
    Row,
    aggregate_seeds,
    select,
)
from robustad.reporting import figure_text

LABELS = {
    "brightness": "mean brightness",
    "patchcore": "PatchCore",
    "nearest": "nearest normal image, in pixels",
    MODULE: "its module alone, no image",
}
"""Detectors by the name that readers see; others are named with their recipe."""
EXACT = "exact"  # the brightness baseline's worst case is computed, not searched
BLANK = "–"
_CLAIMED = tomllib.loads((Path(__file__).parents[1] / "benchmarks" / "claims.toml").read_text())
QUICK, HALF, FULL = "bench.json", "bench-bfloat16.json", "bench-full.json"


def least(file: str) -> dict[str, float]:
    """The least ratios that are claimed, by the claim; `make bench` or `make bench-full` fails below them."""
    return dict(_CLAIMED.get(file.removesuffix(".json"), {}))


@dataclass(frozen=True, kw_only=True)
class View:
    """A table of rows (who was measured) and columns (what).

    Attributes:
        files: Names of the JSON files under ``results/``, and what makes each.
        columns: Title of each column, and which figures stand in it.
        split: Part of the test set.
        lines: Further division of each detector's line: text and which figures; empty = one line per detector.
        by: Fields of `Row` that make a line.
        brief: Whether figures stand without their interval or range.
        over: Field of `Row` that a cell is averaged over, e.g. ``data`` for a mean over categories; empty = none.
    """

    files: dict[str, str]
    columns: dict[str, dict[str, Any]]
    split: str = "final"
    lines: dict[str, dict[str, Any]] = field(default_factory=dict)
    by: tuple[str, ...] = ("detector", "recipe")
    over: str = ""
    brief: bool = False


def _at(levels: float, *attacks: str) -> dict[str, Any]:
    return {"attack": [*attacks, EXACT], "norm": "linf", "epsilon": levels / 255, "targets": "both"}


_CLEAN: dict[str, Any] = {"attack": "none"}
_AUROC: dict[str, Any] = {"metric": "image_AUROC"}
_MATCHED: dict[str, Any] = {"metric": "matched_AUROC"}
_CURVE = {"clean": _CLEAN} | {f"{n}/255": {"epsilon": n / 255, "norm": "linf", "targets": "both"} for n in (1, 2, 4)}
_WITHIN: dict[str, Any] = {"metric": WITHIN_MODULE}
_CELL_COLUMNS = {
    "clean": _AUROC | _CLEAN,
    "PGD-10, 2/255": _AUROC | _at(2, "pgd"),
    "worst case, 2/255": _AUROC | _at(2, "ensemble"),
    "within modules, clean": _WITHIN | _CLEAN,
    "within modules, worst case": _WITHIN | _at(2, "ensemble"),
    "equal brightness, clean": _MATCHED | _CLEAN,
    "equal brightness, worst case": _MATCHED | _at(2, "ensemble"),
}

COUNTS = ("failed_checks",)
"""Metrics whose figures are whole numbers."""
_BENCH_COLUMNS = {
    "clean": _AUROC | _CLEAN,
    "published PGD, 2/255": _AUROC | _at(2, "published-pgd"),
    "PGD-10, 2/255": _AUROC | _at(2, "pgd"),
    **{f"worst case, {n}/255": _AUROC | _at(n, "ensemble") for n in (1, 2, 4)},
    "Square, 2/255": _AUROC | _at(2, "square"),
    "corrupted": _AUROC | {"attack": ALL},
    "false alarms, corrupted": {"metric": FALSE_ALARMS, "attack": ALL},
    "health checks failed": {"metric": "failed_checks"},
}

_AT_8 = {"clean": _AUROC | _CLEAN, "PGD-20, 8/255": _AUROC | _at(8, "adaptive-pgd", "pgd") | {"steps": [20, None]}}


def _made_by(*tasks: str, **others: str) -> dict[str, str]:
    """Files by the tasks of ``tools/evidence.py`` that make them: one named like its task, or ``task="file"``."""
    pairs = [(task, task) for task in tasks] + list(others.items())
    return {f"{file}.json": f"python tools/evidence.py {task}" for task, file in pairs}


def _choices(*tasks: str, within: bool = False) -> View:
    """A table of what was tried on ``dev``; ``within``: with the figures within modules, where there are such."""
    attacked = _at(2, "adaptive-pgd")
    columns = {"clean": _AUROC | _CLEAN, "adaptive PGD, 2/255": _AUROC | attacked}
    if within:
        columns |= {
            "within modules, clean": _WITHIN | _CLEAN,
            "within modules, adaptive PGD, 2/255": _WITHIN | attacked,
        }
    return View(files=_made_by(*tasks), columns=columns, split="dev", by=("data", "detector", "recipe"))


VIEWS = {
    "elpv": View(files=_made_by("elpv", "elpv-cobra"), columns=_CELL_COLUMNS, by=("data", "detector", "recipe")),
    "mtd": View(
        files=_made_by("mtd", "mtd-cobra"),
        columns=_CURVE,
        lines={
            "image AUROC, adaptive PGD": {"metric": "image_AUROC", "attack": ["none", "adaptive-pgd", EXACT]},
            "image AUROC, worst case": {"metric": "image_AUROC", "attack": ["ensemble"]},
            "image AUROC, PGD-10": {"metric": "image_AUROC", "attack": ["none", "pgd"]},
            "pixel AUROC, PGD on the map": {"metric": "pixel_AUROC", "attack": ["none", "map-pgd"]},
            "AUPRO, PGD on the map": {"metric": "AUPRO", "attack": ["none", "map-pgd"]},
        },
    ),
    **{task: _choices(task) for task in ("backbones", "pretraining")},
    "training-choices": _choices("training-choices-elpv", "training-choices-mtd", within=True),
    **{
        task: View(files=_made_by(task), columns=_BENCH_COLUMNS, by=("data", "detector", "recipe"), brief=True)
        for task in ("robustness", "robustness-quick")
    },
    "harder": View(
        files=_made_by("harder"),
        columns={
            "clean": _AUROC | _CLEAN,
            "attacked, 2/255": _AUROC | _at(2, "ensemble", "adaptive-pgd"),
            "of it Square": _AUROC | _at(2, "square"),
        },
        by=("data", "detector", "recipe"),
    ),
    "certified": View(
        files=_made_by("certified"),
        columns={
            "clean, smoothed": _AUROC | {"attack": SMOOTHED},
            **{f"at least, L2 {r:g}": _AUROC | {"attack": [CERTIFIED, EXACT], "epsilon": r} for r in (0.25, 0.5)},
            **{f"undecided, L2 {r:g}": {"metric": ABSTENTIONS, "epsilon": r} for r in (0.25, 0.5)},
        },
    ),
    "cobra-digits": View(files=_made_by("digits"), columns=_AT_8, over="data"),
    "cobra-classes": View(
        files=_made_by("digits"), columns={n: {"data": f"digits:{n}"} for n in "0123456789"}, lines=_AT_8, brief=True
    ),
    "cobra-choices": View(files=_made_by("cobra-choices"), columns=_AT_8, over="data", split="dev"),
    "cobra-optimizers": View(
        files=_made_by("cobra-optimizers"),
        columns={**_AT_8, "PGD-20, 2/255": _AUROC | _at(2, "adaptive-pgd")},
        split="dev",
        by=("data", "detector", "recipe"),
    ),
    "cobra-losses": View(files=_made_by(digits="digits-losses"), columns=_AT_8, over="data"),
    "cobra-scores": View(
        files=_made_by(digits="digits-scores"),
        columns=_AT_8 | {"PGD-100, 8/255": _AUROC | _at(8, "adaptive-pgd") | {"steps": 100}},
        over="data",
    ),
}
CLAIMS: dict[str, tuple[str, str | tuple[str, ...]]] = {
    "pseudo-anomalies": (QUICK, "pseudo-anomalies"),
    "steps": (QUICK, ("train step", "cobra step")),
    "cobra-score-speed": ("digits-scores.json", "cobra score"),
    "pgd-evaluation": (QUICK, "pgd evaluation"),
    "pixel-metrics": (QUICK, ("pixel auroc", "aupro")),
    "pixel-metrics-large": ("pixel-metrics.json", ("pixel auroc over 1e8", "aupro over 1e8")),
    "start-up": (QUICK, "start-up"),
    "predict": ("predict.json", "predict"),
    "roofline": (QUICK, "gemm peak"),
    "bfloat16": (HALF, ("gemm", "train step", "cobra step", "pgd evaluation")),
    "published-sizes": (FULL, ("gemm", "train", "cobra", "pseudo", "pgd", "pixel", "aupro", "start-up")),
}
"""Tables of speed: the file, and how their claims begin."""
COMMANDS = {
    "digits-scores.json": "python tools/evidence.py digits",
    "predict.json": ".venv-anomalib/bin/python -m benchmarks predict --out results/predict.json",
    "pixel-metrics.json": "python -m benchmarks --full pixel-metrics --out results/pixel-metrics.json",
    FULL: "make bench-full",
}
"""What makes a file of `CLAIMS`, if `make bench` does not."""


def figures(view: View, folder: Path) -> str:
    """A view as Markdown, or a line that says how to measure it."""
    found = {file: results for file in view.files if (results := _read(folder / file)) is not None}
    rows = _joined([row for results in found.values() for row in select(results.rows, split=view.split, against=None)])
    keys = list(dict.fromkeys(tuple(getattr(row, name) for name in view.by) for row in rows))
    missing = [not_measured(command) for file, command in view.files.items() if file not in found]
    if not keys:
        return "\n\n".join(missing)
    body = []
    for key in keys:
        where = dict(zip(view.by, key, strict=True))
        body += [[_label(where, text), *cells] for text, cells in _lines(select(rows, **where), view)]
    origins = [_origin(results, folder / file) for file, results in found.items()]
    return "\n\n".join([markdown(["", *view.columns], body), *origins, *missing])


def _lines(rows: list[Row], view: View) -> Iterator[tuple[str, list[str]]]:
    """The cells of one detector, line by line; a line that says less than another one is left out."""
    lines = {
        text: [_cell(select(rows, **{**where, **column}), view) for column in view.columns.values()]
        for text, where in (view.lines or {"": {}}).items()
    }
    found = {text: {(i, cell) for i, cell in enumerate(cells) if cell != BLANK} for text, cells in lines.items()}
    for text, cells in lines.items():
        if found[text] and not any(found[text] < other for other in found.values()):
            yield text, cells


def comparisons(file: str, claim: str | tuple[str, ...], folder: Path) -> str:
    """Measured comparisons of speed as Markdown, or a line that says how to measure them."""
    results = _read(folder / file)
    rows = [] if results is None else [row for row in results.benchmarks if row.claim.startswith(claim)]
    if results is None or not rows:
        return not_measured(COMMANDS.get(file, "make bench"))
    head = ["claim", "baseline", "ours", "unit", "times better", "share of peak"]
    body = [_comparison(row, least(file)) for row in rows]
    return "\n\n".join([markdown(head, body), _origin(results, folder / file)])


def times_to_robustness(folder: Path) -> str:
    """When each training reached the mark, the plot if it is drawn, or a line that says how to measure it."""
    task = "time-to-robustness"
    results = _read(folder / f"{task}.json")
    if results is None:
        return not_measured(f"python tools/evidence.py {task}")
    body = []
    for data, fact in results.details["courses"].items():
        for title, curve in fact["curves"].items():
            best, minutes = max((value for _, value in curve), default=None), fact["reached"][title]
            cells = [f"{value:.3f}" if value is not None else BLANK for value in (fact["mark"], best)]
            body.append([f"{data}, {title}", *cells, "not reached" if minutes is None else f"{minutes:.1f} min"])
    parts = [markdown(["", "mark", "best", "mark reached after"], body)]
    if results.benchmarks:
        head = ["claim", "baseline", "ours", "unit", "times better"]
        parts.append(markdown(head, [_comparison(row, {})[:5] for row in results.benchmarks]))
    if (folder.parent / "docs" / "pictures" / f"{task}.svg").is_file():
        parts.append(f"![Worst case against training time, published recipe and ours](pictures/{task}.svg)")
    return "\n\n".join([*parts, _origin(results, folder / f"{task}.json")])


class Change(NamedTuple):
    """A change of a recipe: its files under ``results/``, each of which says the commit that its task was run at."""

    title: str
    before: str
    after: str
    task: str


CHANGES = (
    Change("`texture` on `mtd`: trained at 2/255, and at 4/255", "mtd-radius-2.json", "mtd-radius-4.json", "mtd"),
    Change(
        "`texture` on `mtd`: batches of 16, and of 8 with the score of one patch",
        "mtd-batch-16.json",
        "mtd.json",
        "mtd",
    ),
    Change("not kept: `default` on `elpv`: batches of 16, and of 8", "elpv.json", "elpv-batch-8.json", "elpv"),
)


def recipe_changes(folder: Path) -> str:
    """What a recipe withstood before and after each change of it."""
    return "\n\n".join(_recipe_change(change, folder) for change in CHANGES)


def _recipe_change(change: Change, folder: Path) -> str:
    names, view = (change.before, change.after), VIEWS[change.task]
    both = [results for name in names if (results := _read(folder / name)) is not None]
    if len(both) < len(names):
        return not_measured(f"python tools/evidence.py {change.task}")
    lines = [dict(_lines(select(results.rows, detector="patchguard", against=None), view)) for results in both]
    body = [
        [", ".join(part for part in (text, column) if part), *pair]
        for text in lines[0]
        if text in lines[1]
        for column, pair in zip(view.columns, zip(lines[0][text], lines[1][text], strict=True), strict=True)
        if BLANK not in pair
    ]
    origins = [_origin(results, folder / name) for results, name in zip(both, names, strict=True)]
    return "\n\n".join([markdown([change.title, "before", "after"], body), *origins])


def not_measured(command: str) -> str:
    """What stands in the place of a table without figures."""
    return f"*Not measured yet: run `{command}`.*"


def markdown(head: Iterable[str], body: Iterable[Iterable[str]]) -> str:
    """A Markdown table; bars inside cells are escaped."""
    lines = [list(head), *[list(row) for row in body]]
    text = ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]
    return "\n".join([text[0], "|" + " --- |" * len(lines[0]), *text[1:]])


def _read(path: Path) -> Results | None:
    return Results.read(path) if path.is_file() else None


def _joined(rows: list[Row]) -> list[Row]:
    """Rows over all seeds; baselines that every run repeats count once."""
    single = [row for row in dict.fromkeys(rows) if row.seed is not None]
    joined = aggregate_seeds(single)
    alone = {row: row for row in joined if row.seeds is not None and len(row.seeds) == 1}
    return [row for row in rows if row.seed is None] + [_single(row, single) if row in alone else row for row in joined]


def _single(joined: Row, rows: list[Row]) -> Row:
    """The row that a mean over one seed was made from: it still has its interval."""
    seed = joined.seeds[0] if joined.seeds else None
    same = ("detector", "recipe", "data", "attack", "norm", "epsilon", "targets", "metric", "split", "steps")
    return select(rows, seed=seed, **{name: getattr(joined, name) for name in same})[0]


def _cell(rows: list[Row], view: View) -> str:
    if view.over and len({getattr(row, view.over) for row in rows}) == len(rows) > 1:
        values = [row.number for row in rows if row.number is not None]
        if len(values) < len(rows):
            return f"undefined for {len(rows) - len(values)} of {len(rows)}"
        return f"{sum(values) / len(values):.3f} ({min(values):.3f} to {max(values):.3f})"
    if len(rows) > 1:
        raise ValueError(f"a cell of a table has {len(rows)} figures: {rows[0]} and {rows[1]}")
    if not rows:
        return BLANK
    if rows[0].metric in COUNTS and rows[0].number is not None:
        return f"{rows[0].number:.0f}"
    return figure_text(rows[0]).partition(" ")[0] if view.brief else figure_text(rows[0])


def _label(key: dict[str, Any], line: str) -> str:
    detector, recipe = key["detector"], key["recipe"]
    name = LABELS.get(detector, recipe if recipe.startswith(detector) else f"{detector}, {recipe}")
    return ", ".join(part for part in (key.get("data"), name, line) if part)


def _comparison(row: BenchmarkRow, least: Mapping[str, float]) -> list[str]:
    claimed, share = least.get(row.claim), row.share_of_peak
    ratio = BLANK if row.ratio is None else f"{row.ratio:.1f}"
    ratio += "" if claimed is None else f" (claimed: {claimed:g})"
    peak = BLANK if share is None else f"{share:.0%}"
    baseline = "not reached" if row.baseline is None else f"{row.baseline:,.3g}"
    return [row.claim, baseline, f"{row.ours:,.3g}", row.unit, ratio, peak]


def _origin(results: Results, path: Path) -> str:
    commit, _, changes = results.commit.partition("+")
    commit = commit[:10] + " with changes" * bool(changes)
    return (
        f"*`{path.parent.name}/{path.name}`: `{results.command}`, {results.started[:10]}, commit {commit}, "
        f"{results.machine}.*"
    )
