"""Reports: one self-contained HTML file."""

from __future__ import annotations

from robustad.reporting.examples import pick_examples
from robustad.reporting.html import data_uri, render, write_report
from robustad.reporting.leaderboard import Board, boards, figure_text, leaderboard_html, leaderboard_markdown
from robustad.reporting.report import (
    METRICS,
    NORM_SIGNS,
    Example,
    ExampleGroup,
    Headline,
    HealthCheck,
    MetricRow,
    MetricTable,
    Report,
    ReportFigure,
    format_epsilon,
    metric_table,
)

__all__ = [
    "METRICS",
    "NORM_SIGNS",
    "Board",
    "Example",
    "ExampleGroup",
    "Headline",
    "HealthCheck",
    "MetricRow",
    "MetricTable",
    "Report",
    "ReportFigure",
    "boards",
    "data_uri",
    "figure_text",
    "format_epsilon",
    "leaderboard_html",
    "leaderboard_markdown",
    "metric_table",
    "pick_examples",
    "render",
    "write_report",
]
