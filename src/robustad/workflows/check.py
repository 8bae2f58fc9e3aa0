"""Look through a dataset for files that cannot be used."""

from __future__ import annotations

from pathlib import Path

from robustad.data import Problem, check_dataset
from robustad.errors import LayoutError


def check(root: str | Path | None = None, *, data: str = "folder", category: str | None = None) -> list[Problem]:
    """Every unreadable or inconsistent file of a dataset; an empty list if all is well.

    Args:
        root: The dataset's folder; None = its default place (not for ``folder``).
        data: Name in `robustad.data.CATALOG`; ``folder`` = the user's own images.
        category: Check this category only.

    Raises:
        LayoutError: If the folder does not exist or is missing.
        ValueError: If ``data`` or ``category`` is unknown.
        MissingExtra: If the dataset comes with a package that is not installed.
    """
    if root is None and data == "folder":
        raise LayoutError("name the folder to check, or a dataset in its default place")
    if root is not None and not Path(root).expanduser().is_dir():
        raise LayoutError(f"folder {root} does not exist; check the path")
    return check_dataset(data, root, category=category)
