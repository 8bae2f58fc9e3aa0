"""Detectors ranked side by side, data set by data set: as Markdown and as one HTML page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from robustad import __version__
from robustad.evaluation import (
    ALL,
    BASELINE,
    CERTIFIED,
    EXACT,
    FALSE_ALARMS,
    MISSES,
    SEVERITY,
    STICKER,
    UNIVERSAL,
    Row,
    aggregate_seeds,
    middle_radius,
    select,
)
from robustad.reporting.html import environment
from robustad.reporting.report import format_epsilon, spread_text

_CORRUPTED = {
    "image_AUROC": "corrupted (mean)",
    FALSE_ALARMS: "false alarms, corrupted",
    MISSES: "misses, corrupted",
}
_MAP_METRICS = {"AUPRO": "AUPRO", "pixel_AUROC": "pixel AUROC"}


@dataclass(frozen=True, kw_only=True)
class Column:
    """A figure that detectors are compared by.

    Attributes:
        title: What stands above it.
        metric: Its metric.
        attack: Its attack; ``none`` = clean images.
        epsilon: Its radius.
    """

    title: str
    metric: str
    attack: str
    epsilon: float


@dataclass(frozen=True, kw_only=True)
class Standing:
    """One detector on one data set.

    Attributes:
        name: The detector.
        figures: Its figures by column title, over all seeds; what was not measured is missing.
        seeds: How many seeds were measured, if others have more.
        baseline: Whether it is the trivial baseline.
        reports: Where the report of each seed lies, relative to the page.
        checks: Verdict of each health check by name, by seed; None = it could not be run.
    """

    name: str
    figures: Mapping[str, Row]
    seeds: str = ""
    baseline: bool = False
    reports: Mapping[int, str] = field(default_factory=dict)
    checks: Mapping[int, Mapping[str, bool | None]] = field(default_factory=dict)

    @property
    def doubts(self) -> str:
        """Which checks failed for which seed; empty = none."""
        return self._which(False)

    @property
    def unrun(self) -> str:
        """Which checks could not be run for which seed; empty = none."""
        return self._which(None)

    def _which(self, verdict: bool | None) -> str:
        found = {seed: [n for n, passed in checks.items() if passed is verdict] for seed, checks in self.checks.items()}
        return "; ".join(f"seed {seed}: {', '.join(names)}" for seed, names in found.items() if names)


@dataclass(frozen=True, kw_only=True)
class Board:
    """All detectors on one data set, the best under attack first, the trivial baseline last.

    Attributes:
        data: The data set.
        columns: What is compared.
        ranked_by: Titles of the columns whose lowest figure decides the order.
        standings: The detectors.
    """

    data: str
    columns: tuple[Column, ...]
    ranked_by: tuple[str, ...]
    standings: tuple[Standing, ...]


def boards(
    rows: Iterable[Row],
    *,
    reports: Mapping[tuple[str, str], Mapping[int, str]] | None = None,
    checks: Mapping[tuple[str, str], Mapping[int, Mapping[str, bool | None]]] | None = None,
) -> list[Board]:
    """Rank detectors, data set by data set.

    Args:
        rows: Figures of single seeds; ``detector`` is the name that is shown.
        reports: By data set and detector: where the report of each seed lies.
        checks: By data set and detector: verdicts of the health checks, see `Standing`.
    """
    pooled = select(rows, against=None)
    result = []
    for data in dict.fromkeys(row.data for row in pooled):
        own = select(pooled, data=data)
        columns = tuple(_columns(own))
        deciding = tuple(column.title for column in _deciding(columns, own))
        standings = []
        seeds = {name: len({row.seed for row in select(own, detector=name)}) for name in {row.detector for row in own}}
        most = max(seeds.values())
        for name in dict.fromkeys(row.detector for row in own):
            key, figures = (data, name), _figures(select(own, detector=name), columns)
            standings.append(
                Standing(
                    name="mean brightness" if name == BASELINE else name,
                    seeds="" if seeds[name] == most else f"{seeds[name]} of {most} seeds",
                    figures=figures,
                    baseline=name == BASELINE,
                    reports=(reports or {}).get(key, {}),
                    checks=(checks or {}).get(key, {}),
                )
            )
        standings.sort(key=lambda s: (s.baseline, bool(s.doubts), -_value(s, deciding)))
        result.append(Board(data=data, columns=columns, ranked_by=deciding, standings=tuple(standings)))
    return result


def leaderboard_markdown(found: Iterable[Board], *, failed: Mapping[str, str] | None = None) -> str:
    """The leaderboard as Markdown, a table for each data set; then what could not be measured, and why."""
    parts = ["# Leaderboard"]
    for board in found:
        lines = [["detector", *(column.title for column in board.columns), "health checks"]]
        for standing in board.standings:
            cells = [figure_text(standing.figures.get(column.title)) for column in board.columns]
            name = f"{standing.name} ({standing.seeds})" if standing.seeds else standing.name
            lines.append([name, *cells, _checks_text(standing)])
        text = ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]
        table = "\n".join([text[0], "|" + " --- |" * len(lines[0]), *text[1:]])
        parts += [f"## {board.data}", table, f"Ranked by {ranking_text(board)}."]
    if failed:
        parts += ["## Not measured", "\n".join(f"- {what}: {why}" for what, why in failed.items())]
    return "\n\n".join(parts) + "\n"


def _checks_text(standing: Standing) -> str:
    if standing.baseline or not standing.checks:
        return "–"
    if standing.doubts:
        return standing.doubts
    return f"none failed; not run: {standing.unrun}" if standing.unrun else "all passed"


def leaderboard_html(
    found: Sequence[Board], *, created: str = "", command: str = "", failed: Mapping[str, str] | None = None
) -> str:
    """The leaderboard as one HTML page that needs nothing else.

    Args:
        found: See `boards`.
        created: When it was made.
        command: What makes it again.
        failed: What could not be measured, and why.
    """
    template = environment().get_template("leaderboard.html.j2")
    facts = {"created": created, "command": command, "failed": failed or {}, "version": __version__}
    return template.render(boards=found, ranking_text=ranking_text, **facts)


def ranking_text(board: Board) -> str:
    """What decides the order, for readers."""
    by = board.ranked_by[0] if len(board.ranked_by) == 1 else f"the lowest of {'; '.join(board.ranked_by)}"
    doubtful = any(standing.doubts for standing in board.standings)
    return f"{by}; behind all others where a health check failed, or there is no gradient" if doubtful else by


def figure_text(row: Row | None) -> str:
    """A figure: one seed with its interval, several with their mean and range, a dash where there is none."""
    if row is None:
        return "–"
    if row.number is None:
        return f"undefined: {row.reason}"
    about = spread_text(row)
    return f"{row.number:.3f} {about}" if about else f"{row.number:.3f}"


def _columns(rows: Sequence[Row]) -> Iterable[Column]:
    cells = sorted({(row.epsilon, row.attack) for row in rows if row.attack != EXACT and row.norm != SEVERITY})
    for epsilon, attack in cells:
        norm = select(rows, epsilon=epsilon, attack=attack)[0].norm
        radius = f"{epsilon:.0%} of the side" if attack == STICKER else format_epsilon(epsilon, norm)
        at_least = " at least" if attack == CERTIFIED else ""
        about = "clean" if attack == "none" else f"{attack}{at_least}, {radius}"
        if attack != "map-pgd":
            yield Column(title=about, metric="image_AUROC", attack=attack, epsilon=epsilon)
        if attack in ("none", "map-pgd"):
            for metric, title in _MAP_METRICS.items():
                if any(row.value is not None for row in select(rows, metric=metric)):
                    yield Column(title=f"{title}, {about}", metric=metric, attack=attack, epsilon=epsilon)
    for metric, title in _CORRUPTED.items():
        if select(rows, attack=ALL, metric=metric):
            yield Column(title=title, metric=metric, attack=ALL, epsilon=0.0)


_BESIDE = (CERTIFIED, STICKER, UNIVERSAL)  # other threats, other radii


def _deciding(columns: Sequence[Column], rows: Sequence[Row]) -> Sequence[Column]:
    """The worst case at the middle radius; else all attacks there, of which the worst counts; else clean.

    Doubtful detectors are attacked in more ways: a worst case that not all have decides nothing.
    """
    attacked = [
        column
        for column in columns
        if column.epsilon and column.metric == "image_AUROC" and column.attack not in _BESIDE
    ]
    if not attacked:
        return columns[:1]
    middle = middle_radius(column.epsilon for column in attacked)
    here = [column for column in attacked if column.epsilon == middle]
    everyone = {row.detector for row in rows} - {BASELINE}
    worst = [column for column in here if column.attack == "ensemble"]
    if worst and everyone == {row.detector for row in select(rows, attack="ensemble", epsilon=worst[0].epsilon)}:
        return worst
    return [column for column in here if column not in worst] or here


def _figures(rows: Sequence[Row], columns: Sequence[Column]) -> dict[str, Row]:
    found = {}
    for column in columns:
        exact = [] if column.attack in ("none", *_BESIDE) else [EXACT]  # of each image by itself, without noise
        attacks = [column.attack, *exact]
        own = select(rows, metric=column.metric, epsilon=column.epsilon, attack=attacks)
        if own:
            found[column.title] = own[0] if len(own) == 1 else aggregate_seeds(own)[0]
    return found


def _value(standing: Standing, titles: Sequence[str]) -> float:
    rows = [standing.figures[title] for title in titles if title in standing.figures]
    return min((-1.0 if row.number is None else row.number for row in rows), default=-1.0)
