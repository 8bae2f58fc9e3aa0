"""A report as one HTML file that needs nothing else: no network, no scripts, pictures and styles inside."""

from __future__ import annotations

import base64
from functools import cache
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from robustad import __version__
from robustad.files import write_text
from robustad.reporting.report import NORM_SIGNS, Headline, Report, format_epsilon, spread_text

_LABELS = {
    "image_AUROC": "Image AUROC",
    "image_AUPR": "Image AUPR",
    "image_F1Max": "Image F1Max",
    "pixel_AUROC": "Pixel AUROC",
    "pixel_AUPR": "Pixel AUPR",
}


def render(report: Report) -> str:
    """The report as HTML text.

    Names, captions and all other texts are escaped. A content security policy in the page forbids scripts and any
    request, so that the file shows the same on every machine, today and in ten years.

    Args:
        report: What to show.

    Returns:
        One HTML document.

    Raises:
        ValueError: If a picture is neither PNG nor JPEG nor SVG.
    """
    template = environment().get_template("report.html.j2")
    return template.render(report=report, headline=report.headline, reading=_reading(report), version=__version__)


def write_report(report: Report, path: str | Path) -> None:
    """Write the report as HTML, in full or not at all.

    Args:
        report: What to show.
        path: Where to; its folder is made if need be.

    Raises:
        ValueError: As for `render`.
    """
    write_text(path, render(report))


def data_uri(data: bytes) -> str:
    """A picture's bytes as a data URI.

    Args:
        data: The bytes of a PNG, JPEG or SVG file.

    Returns:
        ``data:image/...;base64,...``.

    Raises:
        ValueError: For anything else.
    """
    if data.startswith(b"\x89PNG\r\n"):
        kind = "png"
    elif data.startswith(b"\xff\xd8\xff"):
        kind = "jpeg"
    elif data.lstrip().startswith((b"<?xml", b"<svg")):
        kind = "svg+xml"
    else:
        raise ValueError(f"a picture must be PNG, JPEG or SVG, got bytes that begin with {data[:8]!r}")
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


@cache
def environment() -> Environment:
    """Where the templates of all pages come from, with the filters that they share."""
    environment = Environment(
        loader=PackageLoader("robustad.reporting", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        data_uri=data_uri,
        decision=_decision,
        epsilon=format_epsilon,
        figure=_figure,
        label=lambda name: _LABELS.get(name, name),
        score=_score,
        norm=lambda name: NORM_SIGNS.get(name, name),
        spread=spread_text,
    )
    return environment


def _figure(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}".replace("-", "−")


def _score(value: float) -> str:
    """Scores have any scale, unlike metrics."""
    return f"{value:.4g}".replace("-", "−")


def _decision(score: float, threshold: float | None, anomalous: bool | None) -> Markup:
    """Whether this score is decided rightly, as a coloured mark; without a threshold nothing is decided."""
    if threshold is None:
        return Markup()
    alarm = score > threshold
    if anomalous is None:
        return Markup("called {}").format("anomalous" if alarm else "normal")
    word = {(True, True): "found", (True, False): "missed", (False, True): "false alarm", (False, False): "passed"}
    kind, sign = ("good", "✓") if alarm == anomalous else ("bad", "✗")
    return Markup('<span class="mark {}">{} {}</span>').format(kind, sign, word[anomalous, alarm])


def _reading(report: Report) -> list[tuple[str, str]]:
    """What the headline's figures say beside each other, as (kind, sentence); kinds are good, warning and bad."""
    sentences: list[tuple[str, str]] = []
    failed = [check.name for check in report.health if check.passed is False]
    if failed:
        sentences.append(("bad", f"Health checks failed ({', '.join(failed)}): do not rely on the attacked figures."))
    if report.headline is not None:
        compared = _compare(report.headline, examined=bool(report.health))
        sentences += [] if failed and compared and compared[0][0] == "good" else compared
    return sentences


def _compare(headline: Headline, *, examined: bool) -> list[tuple[str, str]]:
    name, baseline, attacked = headline.baseline_name, headline.baseline, headline.attacked
    if baseline is None:
        return []
    if headline.clean <= baseline:
        return [("bad", f"Even without attack the detector is no better than {name} alone.")]
    if attacked is None:
        return []
    if attacked <= baseline:
        return [
            ("warning", f"In the worst case the detector falls to or below what {name} alone reaches without attack.")
        ]
    but = _reservation(headline, examined=examined)
    if but:
        return [("warning", f"Under attack the detector stays above what {name} alone reaches without one, but {but}.")]
    return [("good", f"Even in the worst case the detector stays above what {name} alone reaches without attack.")]


def _reservation(headline: Headline, *, examined: bool) -> str:
    """Why a figure under attack that is above the baseline is no good news yet; empty = it is."""
    attacked, lead = headline.attacked or 0.0, headline.lead
    if attacked <= 0.5:
        return "it is no better than chance"
    if lead is None:
        return "there are too few images to say by how much"
    if lead[0] <= 0:
        return f"among so few images chance may do that: the interval of the lead reaches down to {_figure(lead[0])}"
    if headline.limits:
        return headline.limits
    return "" if examined else "whether attacks on it can be believed was not examined"
