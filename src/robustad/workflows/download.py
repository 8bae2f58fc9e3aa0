"""Fetch published datasets, foreground masks and weights."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from robustad.data.download import available, download_dataset, download_weights, manual_steps


class Offer(NamedTuple):
    """One thing that can be had.

    Attributes:
        name: Dataset.
        images: How its images are had: ``automatic``, ``by hand`` or ``-``.
        masks: The same of its foreground masks.
        weights: Number of released weights.
        page: A page for people.
    """

    name: str
    images: str
    masks: str
    weights: int
    page: str


def offers() -> list[Offer]:
    """Everything that `download` knows, one row per dataset."""
    rows = available()
    result = []
    for name in dict.fromkeys(row.dataset for row in rows):
        own = [row for row in rows if row.dataset == name]
        images, masks, weights = ([row for row in own if row.kind == kind] for kind in ("images", "masks", "weights"))
        pages = [row.page for row in images + own if row.page]
        result.append(
            Offer(
                name=name,
                images=_way([row.fetched for row in images]),
                masks=_way([row.fetched for row in masks]),
                weights=len([row for row in weights if row.fetched]),
                page=pages[0] if pages else "",
            )
        )
    return result


def _way(fetched: list[bool]) -> str:
    if not fetched:
        return "-"
    return "automatic" if all(fetched) else "by hand"


def download(name: str, root: str | Path | None = None, *, masks: bool = True) -> Path:
    """Bring a dataset to ``root`` and return it; see `robustad.data.download.download_dataset`."""
    return download_dataset(name, None if root is None else Path(root), masks=masks)


def steps_by_hand(name: str) -> str:
    """What a person has to do for this dataset, as numbered lines; empty if nothing or if it is not known."""
    try:
        return manual_steps(name)
    except ValueError:
        return ""


def weights(dataset: str, category: str | None = None, target: str | Path = ".") -> Path:
    """Fetch released weights; see `robustad.data.download.download_weights`."""
    return download_weights(dataset, category, Path(target))
