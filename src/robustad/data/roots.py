"""Where datasets lie if the caller does not say."""

from __future__ import annotations

import os
from pathlib import Path

from robustad.errors import LayoutError

# Folders of a data directory shared by several checkouts, by dataset.
_SHARED_NAMES = {"mtd": "magnetic_tile", "deeppcb": "deeppcb"}


def data_home() -> Path:
    """Folder that holds one sub-folder per dataset: ``$ROBUSTAD_DATA``, else ``~/.cache/robustad/data``."""
    named = os.environ.get("ROBUSTAD_DATA")
    return Path(named).expanduser() if named else Path.home() / ".cache" / "robustad" / "data"


def default_root(data: str) -> Path:
    """The folder of a dataset when none was given: in `data_home`, else in ``../shared/data`` beside the checkout.

    Raises:
        LayoutError: If neither exists.
    """
    home = data_home() / data
    if home.is_dir():
        return home
    if data == "visa-csv" and (data_home() / "visa").is_dir():  # the same images, whichever way they are split
        return data_home() / "visa"
    if data in _SHARED_NAMES:
        beside = Path(__file__).resolve().parents[3].parent / "shared" / "data" / _SHARED_NAMES[data]
        if beside.is_dir():
            return beside
    raise LayoutError(f"dataset {data!r} is not in {home}; pass its folder as `root`, or run: robustad download {data}")
