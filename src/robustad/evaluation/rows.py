"""One figure of a results file: its fields, its rules, and how figures are picked and joined over seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from robustad._checks import check_choice, check_epsilon

TARGETS = ("both", "anomalous", "normal")
"""Which images are attacked."""
SPLITS = ("all", "dev", "final")
"""Which part of the test set a row was measured on."""
_MEASURED = ("seed", "seeds", "value", "mean", "values", "interval", "reason")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One figure: either of one seed (``value``) or over several (``mean`` and ``values``).

    Attributes:
        detector: Name of the detector, e.g. ``patchguard``.
        recipe: Name of the training recipe.
        data: Data set and category, e.g. ``elpv:mono``.
        attack: ``none``, or the attack's name, e.g. ``ensemble``.
        norm: Norm of the ball, e.g. ``linf``; ``none`` where there is no attack.
        epsilon: Radius in pixel units of [0, 1]; 0 where there is no attack.
        targets: Who is attacked: ``both``, ``anomalous`` or ``normal``.
        metric: E.g. ``image_AUROC``.
        split: ``final``, ``dev`` or ``all``.
        seed: Seed, in a row with ``value``.
        value: The figure; None = undefined, then ``reason`` says why.
        seeds: Seeds, in a row with ``mean`` and ``values``.
        mean: Mean of ``values``; None if one of them is undefined.
        values: One figure per seed, in the order of ``seeds``.
        interval: Lower and upper end of a confidence interval, if there is one.
        steps: Attack steps, where that says something.
        reason: Why the figure is undefined.
        against: The kind of anomaly (class, defect, dataset) that the normal images are compared with; None = all.

    Raises:
        ValueError: If a field breaks these rules; NaN and infinity do.
    """

    detector: str
    recipe: str
    data: str
    attack: str
    norm: str
    epsilon: float
    targets: str
    metric: str
    split: str
    seed: int | None = None
    value: float | None = None
    seeds: tuple[int, ...] | None = None
    mean: float | None = None
    values: tuple[float | None, ...] | None = None
    interval: tuple[float, float] | None = None
    steps: int | None = None
    reason: str | None = None
    against: str | None = None

    def __post_init__(self) -> None:
        for name in ("seeds", "values", "interval"):  # JSON and callers may bring lists
            given = getattr(self, name)
            if given is not None:
                object.__setattr__(self, name, tuple(given))
        _check_names(self)
        _check_numbers(self)

    @property
    def number(self) -> float | None:
        """``value`` or ``mean``, whichever the row has; None = undefined."""
        return self.value if self.seeds is None else self.mean

    @property
    def spread(self) -> float | None:
        """Sample standard deviation over the seeds; None for fewer than two or with an undefined one."""
        values = [value for value in self.values or () if value is not None]
        if len(values) < 2 or len(values) < len(self.values or ()):
            return None
        return statistics.stdev(values)


@dataclass(frozen=True, kw_only=True)
class BenchmarkRow:
    """One measured comparison of speed, memory or size.

    Attributes:
        claim: What is claimed, in a few words.
        baseline: The figure to beat; None = it got nowhere, and there is no ratio.
        ours: Our figure.
        unit: Unit of both.
        ratio: How many times better ours is; None = there is nothing to compare with.
        share_of_peak: Share of what the hardware could reach at best, in [0, 1], where that is known.
    """

    claim: str
    baseline: float | None
    ours: float
    unit: str
    ratio: float | None
    share_of_peak: float | None = None

    def __post_init__(self) -> None:
        check_finite(asdict(self), f"benchmark {self.claim!r}")


def middle_radius(radii: Iterable[float | None]) -> float:
    """The radius that headlines, ranks and health checks are about: the middle one, of two the larger, never 0.

    Raises:
        ValueError: If there is none.
    """
    found = sorted({radius for radius in radii if radius})
    if not found:
        raise ValueError("no radius is above 0: give `epsilons`, e.g. 2/255")
    return found[len(found) // 2]


def select(rows: Iterable[Row], **where: Any) -> list[Row]:
    """The rows whose fields have the given values.

    Args:
        rows: Rows.
        where: Field name = value, or = a list, tuple or set of values any of which will do. Floats are compared with
            a relative tolerance of 1e-9, so that ``epsilon=8 / 255`` finds what was read from a file.

    Returns:
        The matching rows, in order.

    Raises:
        ValueError: If a name is not a field of `Row`.
    """
    for name in where:
        check_choice("where", name, names(Row))
    return [row for row in rows if all(_matches(getattr(row, name), wanted) for name, wanted in where.items())]


def aggregate_seeds(rows: Iterable[Row]) -> list[Row]:
    """Join rows that differ in nothing but seed and figure: one row with ``mean`` and ``values`` each.

    Args:
        rows: Rows with ``seed`` and ``value``.

    Returns:
        One row per combination, in order of first appearance, seeds ascending. Where one seed's figure is undefined,
        the mean is too. Intervals of single seeds are dropped.

    Raises:
        ValueError: If a row is aggregated already, or a seed appears twice.
    """
    groups: dict[Row, list[Row]] = {}
    for row in rows:
        if row.seed is None:
            raise ValueError(f"{_describe(row)}: is aggregated over seeds already")
        key = replace(row, seed=0, value=0.0, interval=None, reason=None)
        groups.setdefault(key, []).append(row)
    return [_join(sorted(group, key=lambda row: row.seed or 0)) for group in groups.values()]


def names(cls: type) -> list[str]:
    """The field names of a dataclass, in order."""
    return [item.name for item in fields(cls)]


def is_number(value: Any) -> bool:
    """Whether this is an int or a float; a bool is neither."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def check_text(name: str, value: Any) -> None:
    """Refuse anything but a text with something in it."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"`{name}` must be a non-empty text, got {value!r}")


def check_finite(value: Any, where: str) -> None:
    """Refuse NaN and infinity anywhere inside."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            check_finite(item, f"{where}.{key}")
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for index, item in enumerate(value):
            check_finite(item, f"{where}[{index}]")
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where} is {value}; undefined is written as null (None), with a reason")


def _describe(row: Row) -> str:
    return f"row {row.detector} {row.data} {row.attack}@{row.epsilon:g} {row.metric}"


def _check_names(row: Row) -> None:
    for name in ("detector", "recipe", "data", "attack", "norm", "metric"):
        check_text(name, getattr(row, name))
    check_choice("targets", row.targets, TARGETS)
    check_choice("split", row.split, SPLITS)
    if not is_number(row.epsilon):
        raise ValueError(f"`epsilon` must be a number, got {row.epsilon!r}")
    check_epsilon(row.epsilon, norm=row.norm)
    if row.attack == "none" and row.epsilon != 0:
        raise ValueError(f"`epsilon` must be 0 without an attack, got {row.epsilon:g}")


def _check_numbers(row: Row) -> None:
    where = _describe(row)
    for name in ("value", "mean", "values", "interval"):
        given = getattr(row, name)
        check_finite(given, f"{where}: `{name}`")
        if any(item is not None and not is_number(item) for item in (given if isinstance(given, tuple) else [given])):
            raise ValueError(f"{where}: `{name}` must be numeric, got {given!r}")
    if (row.seed is None) == (row.seeds is None):
        raise ValueError(f"{where}: give either `seed` and `value`, or `seeds`, `mean` and `values`")
    if row.seeds is None:
        mixed = row.mean is not None or row.values is not None
    else:
        mixed = row.value is not None or row.values is None
    if mixed:
        raise ValueError(f"{where}: `value` goes with `seed`; `mean` and `values` go with `seeds`")
    if row.seeds is not None:
        _check_seeds(row, where)
    if row.number is None and not row.reason:
        raise ValueError(f"{where}: an undefined figure needs a `reason`")


def _check_seeds(row: Row, where: str) -> None:
    seeds, values = row.seeds or (), row.values or ()
    if len(seeds) != len(values) or not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"{where}: one of `values` per distinct one of `seeds`, got {seeds} and {values}")
    known = [value for value in values if value is not None]
    expected = statistics.fmean(known) if len(known) == len(values) else None
    if expected is None or row.mean is None:
        right = row.mean is expected
    else:
        right = math.isclose(row.mean, expected, rel_tol=1e-6, abs_tol=1e-12)
    if not right:
        raise ValueError(f"{where}: `mean` is {row.mean}, but the mean of `values` is {expected}")


def _matches(value: Any, wanted: Any) -> bool:
    if isinstance(wanted, list | tuple | set | frozenset) and not isinstance(value, tuple):
        return any(_matches(value, item) for item in wanted)
    if isinstance(wanted, float) and is_number(value):
        return math.isclose(value, wanted, rel_tol=1e-9)
    return bool(value == wanted)


def _join(group: list[Row]) -> Row:
    seeds = tuple(row.seed for row in group if row.seed is not None)
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"{_describe(group[0])}: a seed appears twice in {seeds}")
    values = tuple(row.value for row in group)
    known = [value for value in values if value is not None]
    mean = statistics.fmean(known) if len(known) == len(values) else None
    reason = next((row.reason for row in group if row.value is None), None)
    same = {name: getattr(group[0], name) for name in names(Row) if name not in _MEASURED}
    return Row(**same, seeds=seeds, values=values, mean=mean, reason=reason)
