"""Fetch the published datasets, foreground masks and weights from where their publishers keep them.

The addresses are rows of ``addresses.json``. Everything is fetched into a hidden folder below the target, checked,
unpacked there and only then moved to its place; an interrupted run goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from robustad._checks import check_choice
from robustad.data._addresses import Address, load_addresses, select
from robustad.data._fetching import bring, bring_folder, bring_weights, check_client, is_missing, staging
from robustad.data._placing import in_place, visible
from robustad.data.roots import data_home, default_root
from robustad.data.vision import fetch_vision
from robustad.errors import DownloadError, LayoutError


def available(*, addresses: Sequence[Address] | None = None) -> list[Address]:
    """Everything that is known to exist, fetched by this module or not."""
    return [row for row in _table(addresses) if row.how != "none"]


def manual_steps(name: str, *, addresses: Sequence[Address] | None = None) -> str:
    """What a person must do to get the images of a dataset, as numbered lines; empty if nothing.

    Raises:
        ValueError: If the dataset is not known.
    """
    table = _table(addresses)
    _check_dataset(table, name)
    rows = [row for row in select(table, "images", name) if not row.fetched]
    lines = []
    for row in rows:
        lines.append(f"Get the images of {name}: {_where(row)}.")
        lines.append(f"Unpack them so that {_goal('ROOT', row)}.")
    if rows and select(table, "masks", name):
        lines.append("Run the same download command again: it adds the foreground masks.")
    return "\n".join(f"{number}. {line}" for number, line in enumerate(lines, start=1))


def download_dataset(
    name: str,
    root: Path | None = None,
    *,
    masks: bool = True,
    progress: bool = True,
    addresses: Sequence[Address] | None = None,
) -> Path:
    """Bring a dataset to ``root``: its images and, where the authors published them, the foreground masks.

    What is already there is left as it is, so calling this before every training costs nothing.

    Args:
        name: Dataset, e.g. ``mvtec``.
        root: The dataset's own folder, as `load_samples` takes it; None = the default place of this dataset.
        masks: Also fetch the foreground masks.
        progress: Show how far it is.
        addresses: Table to use instead of the built-in one.

    Returns:
        ``root``.

    Raises:
        ValueError: If the dataset is not known.
        DownloadError: If something cannot be fetched, has another checksum than before, is unsafe to unpack, or must be
            fetched by hand (see `manual_steps`).
        MissingExtra: If a shared drive is needed and gdown is not installed.
    """
    table = _table(addresses)
    _check_dataset(table, name)
    root = (_default_root(name) if root is None else Path(root).expanduser()).resolve()
    images = select(table, "images", name)
    if images[0].how == "torchvision":
        fetch_vision(name, root)
        return root
    missing = [row for row in images if is_missing(root, row)]
    alternatives = select(table, "masks", name) if masks else []
    if alternatives and not is_missing(root, alternatives[0]):
        alternatives = []
    _check_can_start(name, root, images, missing)
    check_client([*missing, *alternatives[:1]])
    for row in missing:
        bring([row], root, show_progress=progress)
    if alternatives:
        bring(alternatives, root, show_progress=progress)
    return root


def _check_can_start(name: str, root: Path, images: list[Address], missing: list[Address]) -> None:
    by_hand = [row for row in missing if not row.fetched]
    if by_hand:
        row = by_hand[0]
        raise DownloadError(
            f"the images of {name} must be fetched by hand: {_where(row)}; unpack them so that {_goal(root, row)}, "
            "then run this again"
        )
    started = any(in_place(root, row) or staging(root, row).exists() for row in images)
    if missing and not started and root.exists() and (not root.is_dir() or visible(root)):
        raise DownloadError(
            f"{root} is not empty and does not look like {name} (no {missing[0].present}); give a new folder"
        )


def download_weights(
    dataset: str,
    category: str | None,
    target: Path,
    *,
    progress: bool = True,
    addresses: Sequence[Address] | None = None,
) -> Path:
    """Fetch weights that the authors of PatchGuard and COBRA released.

    Args:
        dataset: Dataset they were trained on.
        category: Its category; None = all that lie in the dataset's folder.
        target: Folder to put them in.
        progress: Show how far it is.
        addresses: Table to use instead of the built-in one.

    Returns:
        ``target/patchguard_DATASET_CATEGORY.pth``, or for all categories ``target/DATASET``. The files hold what their
        authors saved: load them through the importer of official weights only.

    Raises:
        ValueError: If no weights are known for the dataset or the category; the text lists those that are.
        DownloadError: If the file does not exist, cannot be fetched, or is not a weights file.
        MissingExtra: If gdown is not installed.
    """
    table = [row for row in _table(addresses) if row.kind == "weights"]
    check_choice("dataset", dataset, {row.dataset for row in table})
    row = _weights_row({row.category: row for row in table if row.dataset == dataset}, dataset, category or "")
    target = Path(target).expanduser().resolve()
    if row.how == "gdrive-folder":
        return bring_folder(row, target / dataset, show_progress=progress)
    return bring_weights(row, target / f"patchguard_{dataset}_{row.category}.pth", show_progress=progress)


def _weights_row(rows: dict[str, Address], dataset: str, category: str) -> Address:
    categories = [known for known in rows if known]
    if category and not categories:
        raise ValueError(f"the weights for {dataset} are not sorted by category, got {category!r}; leave it out")
    if category or "" not in rows:
        check_choice("category", category, categories)
    row = rows[category]
    if row.how == "none":
        others = ", ".join(sorted(known for known in categories if rows[known].fetched))
        raise DownloadError(f"no weights exist for {dataset}/{category}: {row.note}; there are {others}")
    return row


def _table(addresses: Sequence[Address] | None) -> Sequence[Address]:
    return load_addresses() if addresses is None else addresses


def _check_dataset(table: Sequence[Address], name: str) -> None:
    check_choice("name", name, {row.dataset for row in table if row.kind == "images"})


def _default_root(name: str) -> Path:
    try:
        return default_root(name)  # where `load_samples` finds it already
    except LayoutError:
        return data_home() / name


def _where(row: Address) -> str:
    place_and_note = [f"open {row.page}" if row.page else "", row.note]
    return ", ".join(text for text in place_and_note if text)


def _goal(root: object, row: Address) -> str:
    return f"{root}/{row.present} exists".replace("*/", "CATEGORY/").replace("/* exists", " holds the images")
