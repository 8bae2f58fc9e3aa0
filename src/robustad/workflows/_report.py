"""The report of a test: what the figures are, what they mean, and the pictures behind them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np

from robustad.evaluation import (
    BASELINE,
    MATCHED,
    Cell,
    CertifyConfig,
    Doubts,
    Evaluation,
    Results,
    Row,
    Verdict,
    lead_interval,
    middle_radius,
    select,
)
from robustad.evaluation.machine import environment
from robustad.inference import map_scale
from robustad.metrics import f1max
from robustad.reporting import (
    NORM_SIGNS,
    Example,
    ExampleGroup,
    Headline,
    HealthCheck,
    MetricRow,
    MetricTable,
    Report,
    metric_table,
    pick_examples,
)
from robustad.visual import strip
from robustad.workflows._candidate import Candidate
from robustad.workflows._data import DataConfig
from robustad.workflows._report_certified import certified_table
from robustad.workflows._report_corruptions import corruption_table
from robustad.workflows._report_figures import ball_text, report_figures
from robustad.workflows._report_threats import threat_table

TITLES = {
    "patchguard": "PatchGuard",
    "cobra": "COBRA",
    "patchcore": "PatchCore",
    "brightness": "Mean brightness",
    "nearest": "Nearest normal image",
}
OTHER_IMAGES = (
    "The normal images of these data are not those that the detector was trained on. If it was trained on some of the "
    "tested ones, all figures are too good."
)
UNKNOWN_IMAGES = (
    "It is not known which images this detector was trained on, and some of the normal ones were tested. If it was "
    "trained on those, all figures are too good: give others (for images of your own: --test-normal)."
)
MAX_GAP = 0.03
"""A worst case further below plain PGD than this is explained."""


@dataclass(frozen=True, kw_only=True)
class Findings:
    """Everything that a test found out.

    Attributes:
        candidate: The detector.
        data: What it was tested on.
        names: Name of each image.
        num_images: How many images the part of the test set has of which these are some.
        evaluation: Scores, maps, pictures.
        rows: The figures.
        by_kind: Figures against each kind of anomaly by itself.
        corrupted: Figures on corrupted images.
        certified: What is certain in L2.
        threats: Figures under stickers and universal perturbations.
        sticker_draws: Turns and brightnesses that a sticker has to work under.
        certificate: How; None = it was not asked for.
        verdicts: Outcome of the health checks.
        caution: Why tested images may be images of the training; empty = they are not.
        log: Training log, if there is one.
        command: The command that repeats the test.
        started: When the test began.
    """

    candidate: Candidate
    data: DataConfig
    names: Sequence[str]
    num_images: int
    evaluation: Evaluation
    rows: list[Row]
    by_kind: list[Row]
    corrupted: list[Row]
    certified: list[Row]
    threats: list[Row]
    sticker_draws: int
    certificate: CertifyConfig | None
    verdicts: list[Verdict]
    caution: str
    log: list[dict[str, Any]]
    command: str
    started: datetime

    def row(self, metric: str, cell: Cell | None, detector: str | None = None) -> Row | None:
        """One figure of the detector (or the baseline)."""
        if cell is None:
            return None
        attack = cell.attack if detector is None or cell.attack == "none" else "exact"
        where = {"metric": metric, "epsilon": cell.epsilon, "attack": attack}
        return next(iter(select(self.rows, detector=detector or self.candidate.detector.name, **where)), None)

    def figure(self, metric: str, cell: Cell | None, detector: str | None = None) -> float | None:
        """Its value; None = undefined or not measured."""
        row = self.row(metric, cell, detector)
        return None if row is None else row.value

    @property
    def worst(self) -> Cell | None:
        """The cell of the headline: the ensemble, else the strongest attack, at the middle radius."""
        cells = self.evaluation.cells[1:]
        if not cells:
            return None
        middle = middle_radius(cell.epsilon for cell in cells)
        here = [cell for cell in cells if cell.epsilon == middle]
        ensemble = [cell for cell in here if cell.attack == "ensemble"]
        return min(ensemble or here, key=lambda cell: (self.figure("image_AUROC", cell) or 0.0, cell.attack))


def build_report(findings: Findings, results: Results) -> Report:
    """The page of a test."""
    name = findings.candidate.detector.name
    threshold, rule = _threshold(findings)
    return Report(
        title=f"{TITLES.get(name, name)} on {findings.data.label}",
        created=f"{findings.started.day} {findings.started:%B %Y, %H:%M} UTC",
        headline=_headline(findings),
        verdicts=tuple(_sentences(findings)),
        summary=_summary(findings),
        tables=tuple(_tables(findings)),
        figures=report_figures(findings.evaluation, findings.rows, findings.worst, findings.log, threshold),
        groups=_groups(findings, rule),
        threshold=threshold,
        health=tuple(HealthCheck(name=v.name, passed=v.passed, why=v.why) for v in findings.verdicts),
        command=findings.command,
        environment={
            **{name.capitalize(): value for name, value in environment().items()},
            "Commit": results.commit,
            "Wall time": _duration(results.wall_seconds),
        },
    )


def _headline(findings: Findings) -> Headline | None:
    clean, worst = findings.row("image_AUROC", findings.evaluation.clean), findings.worst
    if clean is None or clean.value is None:
        return None
    attacked, evaluation = findings.row("image_AUROC", worst), findings.evaluation
    return Headline(
        clean=clean.value,
        clean_interval=clean.interval,
        attacked=None if attacked is None else attacked.value,
        attacked_interval=None if attacked is None else attacked.interval,
        epsilon=None if worst is None else worst.epsilon,
        attack="worst case over all attacks" if worst and worst.attack == "ensemble" else f"{worst and worst.attack}",
        baseline=findings.figure("image_AUROC", evaluation.clean, BASELINE),
        norm=evaluation.norm,
        lead=None if worst is None else lead_interval(evaluation, worst.scores),
        limits="" if worst is None else _limits(evaluation, worst),
    )


def _limits(evaluation: Evaluation, worst: Cell) -> str:
    if worst.attack != "ensemble":
        return f"{worst.attack} is one attack, and no worst case of several for each image"
    if evaluation.targets != "both":
        return f"{evaluation.targets} images alone were attacked"
    return "" if evaluation.where == "everywhere" else f"attacks changed nothing but the {evaluation.where}"


def _sentences(findings: Findings) -> Iterator[str]:
    evaluation, worst = findings.evaluation, findings.worst
    clean = evaluation.clean
    if len(set(evaluation.labels.tolist())) < 2:
        kind = "anomalous" if evaluation.labels[0] else "normal"
        yield f"All test images are {kind}: whether the detector separates the classes cannot be measured."
        return
    yield from _doubts(findings)
    if worst is not None:
        yield from _gap_sentence(findings, worst)
        before, after = (findings.figure("image_AUROC", cell, BASELINE) for cell in (clean, worst))
        if before is not None and after is not None:
            where = ball_text(evaluation, worst)
            yield f"Mean brightness alone separates the classes with {before:.3f}, and with {after:.3f} at {where}."
    matched, attacked = findings.figure(MATCHED, clean), findings.figure(MATCHED, worst)
    if matched is not None:
        under = "" if attacked is None else f", and {attacked:.3f} in the worst case"
        yield f"Among images of equal brightness (to one grey level) it ranks {matched:.3f} of the pairs right{under}."
    found = findings.figure("AUPRO", clean)
    moved = findings.evaluation.cell("map-pgd", worst.epsilon) if worst is not None else None
    left = findings.figure("AUPRO", moved)
    if found is not None and left is not None and worst is not None:
        yield f"Localization (AUPRO) falls from {found:.3f} to {left:.3f} at {ball_text(evaluation, worst)}."


def _doubts(findings: Findings) -> Iterator[str]:
    if findings.caution:
        yield findings.caution
    doubts = Doubts.of(findings.verdicts)
    if not doubts.reasons or findings.worst is None:
        return
    if doubts.no_gradient:
        yield "The score has no gradient: only attacks that need none were run. They find less than others would."
    else:
        yield (
            f"Do not trust the figures of attacks that use the gradient: {'; '.join(doubts.reasons)}. An attack "
            "without gradient (square) was run as well; wherever it does more harm, the worst case says so."
        )


def _gap_sentence(findings: Findings, worst: Cell) -> Iterator[str]:
    plain = findings.evaluation.cell("pgd", worst.epsilon)
    claimed, left = findings.figure("image_AUROC", plain), findings.figure("image_AUROC", worst)
    if plain is None or worst.attack != "ensemble" or claimed is None or left is None:
        return
    text = f"PGD-{plain.steps} alone would have claimed {claimed:.3f} at {ball_text(findings.evaluation, worst)}"
    gap = claimed - left
    if gap <= MAX_GAP:
        yield f"{text}; the worst case over all attacks leaves {'the same' if gap < 5e-4 else f'{left:.3f}'}."
        return
    wins = {label: int((scores == worst.scores).sum()) for label, scores in worst.members.items()}
    label = max(wins, key=lambda name: wins[name])
    share = wins[label] / len(worst.scores)
    most = f" For {share:.0%} of the images the worst is “{label}”." if share else ""  # none where scores are random
    yield (
        f"{text}, {gap:.3f} more than the worst case leaves: more steps, restarts and other goals move images that it "
        f"leaves alone.{most}"
    )


def _summary(findings: Findings) -> dict[str, str]:
    evaluation, detector = findings.evaluation, findings.candidate.detector
    labels, size = evaluation.labels, detector.image_size
    backbone = getattr(getattr(detector, "config", None), "backbone", None)
    masks = int((evaluation.has_mask & labels).sum())
    skipped: dict[str, list[str]] = {}
    for goal, why in dict.fromkeys(item for plan in evaluation.plans for item in plan.skipped):
        skipped.setdefault(why, []).append(goal)
    split, there = findings.rows[0].split, findings.num_images
    chosen = "" if there == len(labels) else f", chosen from {there} images"
    return {
        "Detector": f"{detector.name}{f', {backbone}' if backbone else ''}",
        "Recipe": f"{findings.rows[0].recipe}, seed {findings.rows[0].seed}",
        "Data": f"{findings.data.label}, {'whole test set' if split == 'all' else f'split {split}'}",
        "Images": f"{int(labels.sum())} anomalous ({masks} with mask), {int((~labels).sum())} normal{chosen}",
        "Image size": f"{size} x {size}",
        "Threat model": f"{NORM_SIGNS[evaluation.norm]} at the network's input, every channel by itself",
        "Attacked": _attacked(evaluation),
        **({"Not run": "; ".join(f"{', '.join(g)}: {why}" for why, g in skipped.items())} if skipped else {}),
    }


def _attacked(evaluation: Evaluation) -> str:
    who = {"both": "normal and anomalous images"}.get(evaluation.targets, f"{evaluation.targets} images")
    where = "" if evaluation.where == "everywhere" else f", {evaluation.where} only"
    return who + where + (f"; each step follows the mean of {evaluation.draws} calls" if evaluation.draws > 1 else "")


def _tables(findings: Findings) -> Iterator[MetricTable]:
    note = (
        "“ensemble” is the worst case per image over its attacks and the clean image. “exact” is the brightness "
        "baseline in its computed worst case. A dash is undefined."
    )
    table = metric_table(findings.rows, caption="Metrics by attack and radius", baseline=BASELINE, note=note)
    if MATCHED in table.columns:
        note += f" {MATCHED}: AUROC over pairs of images whose mean brightness differs by at most one grey level."
        table = replace(table, note=note)
    rows = tuple(
        replace(row, name=f"{BASELINE}, {'clean' if row.attack == 'none' else row.attack}") if row.baseline else row
        for row in table.rows
    )
    yield replace(table, rows=rows)
    worst = findings.worst
    if worst is not None and worst.members:
        yield _member_table(findings.evaluation, worst)
    if findings.by_kind:
        yield _kind_table(findings)
    if findings.corrupted:
        calibrated = findings.candidate.calibration is not None
        yield corruption_table(findings.corrupted, findings.candidate.detector.name, calibrated=calibrated)
    if findings.threats:
        clean = findings.figure("image_AUROC", findings.evaluation.clean)
        yield threat_table(findings.threats, clean, draws=findings.sticker_draws)
    if findings.certificate is not None:
        yield certified_table(
            findings.certified,
            findings.candidate.detector.name,
            sigma=findings.certificate.sigma,
            confidence=findings.certificate.confidence,
            pixels=3 * findings.candidate.detector.image_size**2,
        )


def _member_table(evaluation: Evaluation, worst: Cell) -> MetricTable:
    from robustad.evaluation.figures import defined
    from robustad.metrics import auroc

    lines: list[MetricRow] = []
    ball: dict[str, Any] = {"epsilon": worst.epsilon, "norm": evaluation.norm}
    for label, scores in worst.members.items():
        value, _ = defined(auroc, scores, evaluation.labels)
        share = float((scores == worst.scores).mean())
        figures = {"image_AUROC": value, "share of images where it is the worst": share}
        lines.append(MetricRow(attack="member", name=label, values=figures, **ball))
    value, _ = defined(auroc, worst.scores, evaluation.labels)
    lines.append(MetricRow(attack="ensemble", values={"image_AUROC": value}, emphasis=True, **ball))
    return MetricTable(caption="What the worst case is taken over", rows=tuple(lines))


def _kind_table(findings: Findings) -> MetricTable:
    """The hardest kinds first, clean and in the worst case."""
    clean, worst = findings.evaluation.clean, findings.worst
    columns = (
        {"clean": clean}
        if worst is None
        else {"clean": clean, f"{worst.attack}, {ball_text(findings.evaluation, worst)}": worst}
    )
    figures: dict[str, dict[str, float | None]] = {kind: {} for kind in findings.evaluation.against}
    for name, cell in columns.items():
        for row in select(findings.by_kind, attack=cell.attack, epsilon=cell.epsilon):
            figures[str(row.against)][name] = row.value
    order = sorted(figures, key=lambda kind: tuple(reversed([value or 0.0 for value in figures[kind].values()])))
    counts = {kind: sum(findings.evaluation.labels[i] for i in findings.evaluation.against[kind]) for kind in order}
    lines = (MetricRow(attack="none", epsilon=0.0, name=f"{k} ({counts[k]})", values=figures[k]) for k in order)
    return MetricTable(
        caption="Image AUROC of the normal images against each kind of anomaly, the hardest first",
        rows=tuple(lines),
        head="Kind (images)",
        by_radius=False,
    )


def _threshold(findings: Findings) -> tuple[float | None, str]:
    if findings.candidate.calibration is not None:
        return findings.candidate.calibration.threshold, ""
    evaluation = findings.evaluation
    try:
        found = f1max(evaluation.clean.scores, evaluation.labels)
    except ValueError:
        return None, ""
    return found.threshold, "The detector is not calibrated: the threshold is the one of the best F1 on these images."


def _groups(findings: Findings, rule: str) -> tuple[ExampleGroup, ...]:
    evaluation, worst = findings.evaluation, findings.worst
    views = evaluation.clean.views
    maps = [view.anomaly_map for view in views.values() if view.anomaly_map is not None]
    scale = map_scale(findings.candidate, maps) if maps else None
    groups: list[ExampleGroup] = []
    for title, chosen in pick_examples(evaluation.clean.scores, evaluation.labels, per_group=2).items():
        examples = tuple(
            Example(
                name=findings.names[index],
                picture=_picture(evaluation, worst, index, scale),
                score_clean=float(evaluation.clean.scores[index]),
                score_attacked=None if worst is None else float(worst.scores[index]),
                anomalous=bool(evaluation.labels[index]),
            )
            for index in chosen
            if index in views
        )
        groups.append(ExampleGroup(title=title.capitalize(), examples=examples, note="" if groups else rule))
    return tuple(groups)


def _picture(evaluation: Evaluation, worst: Cell | None, index: int, scale: Any) -> bytes:
    clean = evaluation.clean.views[index]
    attacked = None if worst is None else worst.views[index]
    captions = {} if worst is None else {"attacked_image": f"attacked, {ball_text(evaluation, worst)}"}
    return strip(
        clean.image,
        mask=evaluation.masks.get(index),
        anomaly_map=clean.anomaly_map,
        attacked_image=None if attacked is None else attacked.image,
        attacked_map=None if attacked is None else attacked.anomaly_map,
        vmin=None if scale is None else scale.low,
        vmax=None if scale is None else scale.high,
        captions=captions,
    )


def _duration(seconds: float) -> str:
    whole = int(np.ceil(seconds))
    return f"{whole} s" if whole < 120 else f"{whole // 60} min {whole % 60} s"
