"""Result rows as a table for the terminal."""

from __future__ import annotations

from collections.abc import Iterable

from rich.table import Table

from robustad.evaluation import BASELINE, Row
from robustad.reporting import format_epsilon, metric_table

_SHORT = {
    "image_AUROC": "image\nAUROC",
    "image_AUPR": "image\nAUPR",
    "image_F1Max": "image\nF1Max",
    "pixel_AUROC": "pixel\nAUROC",
    "pixel_AUPR": "pixel\nAUPR",
    "matched_AUROC": "equal\nbrightness",
}


def table(rows: Iterable[Row]) -> Table:
    """One line per attack and radius; the trivial baseline comes last, set apart."""
    content = metric_table(rows, caption="")
    result = Table(box=None, header_style="bold", pad_edge=False)
    result.add_column("attack", vertical="bottom")
    for name in ("ε", *(_SHORT.get(name, name) for name in content.columns)):
        result.add_column(name, justify="right", vertical="bottom")
    previous = None
    for row in content.rows:
        group = (row.baseline, row.epsilon)
        if previous is not None and group != previous and (row.baseline > previous[0] or not row.baseline):
            result.add_row()
        previous = group
        name = "clean" if row.attack == "none" else row.attack
        figures = [row.values.get(column) for column in content.columns]
        result.add_row(
            f"{BASELINE}, {name}" if row.baseline else name,
            format_epsilon(row.epsilon, row.norm),
            *("–" if figure is None else f"{figure:.3f}" for figure in figures),
            style="dim" if row.baseline else "bold" if row.emphasis else "",
        )
    return result
