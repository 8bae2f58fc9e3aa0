"""Datasets whose truth stands in a table rather than in folder names: elpv and VisA's official split."""

from __future__ import annotations

import csv
from importlib.util import find_spec
from pathlib import Path, PurePosixPath

from robustad.data.layouts import MaskFinder
from robustad.data.samples import Sample, Split
from robustad.errors import LayoutError, MissingExtra

ELPV_KINDS = ("mono", "poly")


def elpv_root() -> Path:
    """Data folder of the installed ``elpv-dataset`` package.

    Raises:
        MissingExtra: If the package is not installed.
    """
    spec = find_spec("elpv_dataset")  # finding is enough: importing it would decode nothing we need
    if spec is None or spec.origin is None:
        raise MissingExtra('elpv_dataset is not installed; run: pip install "robustad[demo]"')
    return Path(spec.origin).parent / "data"


def read_elpv(root: Path | None, category: str) -> Split:
    """Solar cells in electroluminescence light: normal = defect probability 0, anomalous = 1.

    Cells of probability 1/3 and 2/3 are left out.

    Args:
        root: Folder with ``labels.csv`` (path, probability, kind, separated by blanks) and ``images/``; None = the
            installed package.
        category: ``mono`` or ``poly`` (`ELPV_KINDS`).

    Returns:
        All normals in ``train``, all defects in ``test``.

    Raises:
        MissingExtra: If ``root`` is None and the package is not installed.
        LayoutError: If the table is missing or broken.
    """
    root = elpv_root() if root is None else root
    normals: list[Sample] = []
    defects: list[Sample] = []
    for number, line in enumerate(_lines(root / "labels.csv"), start=1):
        cells = line.split()
        if not cells:
            continue
        if len(cells) != 3 or not _is_number(cells[1]):
            raise LayoutError(f"{root / 'labels.csv'}, line {number}: expected path, probability, kind; got {line!r}")
        if cells[2] == category and float(cells[1]) in (0.0, 1.0):
            sample = _sample(root, cells[0], label=float(cells[1]) == 1.0)
            (defects if sample.label else normals).append(sample)
    if not normals or not defects:
        raise LayoutError(f"{root / 'labels.csv'} lists no {category} cells; use the file of the elpv-dataset package")
    return Split(sorted(normals, key=_by_name), sorted(defects, key=_by_name))


def read_visa_csv(root: Path, category: str | None) -> Split:
    """VisA as split by the official ``split_csv/1cls.csv`` (columns object, split, label, image, mask).

    Foreground masks, if any, are taken from ``CATEGORY/Data/Images/foreground_mask``.

    Args:
        root: VisA's folder.
        category: Value of the column ``object``.

    Returns:
        Training normals and the test set, each sorted by name, normals first.

    Raises:
        LayoutError: If the table or the category is missing, or the table names places outside ``root``.
    """
    table = root / "split_csv" / "1cls.csv"
    rows = list(csv.DictReader(_lines(table)))
    wanted = {"object", "split", "label", "image", "mask"}
    if not rows or not wanted <= set(rows[0]):
        raise LayoutError(
            f"{table} must have the columns {', '.join(sorted(wanted))}; download the official file again"
        )
    known = sorted({row["object"] for row in rows})
    if category is None:
        raise LayoutError(f"`category` is missing; {table} holds {', '.join(known)}")
    if category not in known:
        raise LayoutError(f"category {category!r} does not exist in {table}; it holds {', '.join(known)}")
    finder = MaskFinder()
    train, test = [], []
    for row in (row for row in rows if row["object"] == category):
        label = row["label"] != "normal"
        sample = _sample(root, row["image"], label=label, mask=row["mask"] or None if label else None)
        if row["split"] == "train":
            folder = root / category / "Data" / "Images" / "foreground_mask"
            train.append(sample._replace(foreground_path=finder.find(folder, sample.path.stem, sample.path.suffix)))
        else:
            test.append(sample)
    if any(sample.label for sample in train):
        raise LayoutError(f"{table} trains on anomalous images of {category!r}; use the one-class split")
    return Split(sorted(train, key=_by_name), sorted(test, key=lambda sample: (sample.label, sample.name)))


def _sample(root: Path, name: str, *, label: bool, mask: str | None = None) -> Sample:
    path = _inside(root, name)
    mask_path = None if mask is None else _inside(root, mask)
    posix = PurePosixPath(name).as_posix()
    return Sample(path, label, mask_path, None, posix, posix)


def _inside(root: Path, name: str) -> Path:
    relative = PurePosixPath(name)
    if relative.is_absolute() or ".." in relative.parts or "\\" in name:
        raise LayoutError(f"{name!r} in a table of {root} points outside of it; use the official table")
    return root / relative


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError as error:
        raise LayoutError(f"{path} does not exist; check that the dataset is complete") from error
    except (OSError, UnicodeDecodeError) as error:
        raise LayoutError(f"{path} cannot be read ({error}); download it again") from error


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _by_name(sample: Sample) -> str:
    return sample.name
