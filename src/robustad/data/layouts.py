"""Folder layouts of the public datasets: rows of one table, read by one reader.

A template names a place below the dataset's root. ``{category}`` is the product, ``{defect}`` any folder that is not
the one of the normal images, ``{stem}`` the image's file name without extension. The extension of a mask is looked up
on disk: the image's own first, then ``.png``, then any other. Templates are filled below the root only, so that words
such as "test" in the root's own path do no harm.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from robustad.data.samples import Sample, Split
from robustad.errors import LayoutError
from robustad.images import IMAGE_EXTENSIONS, list_images


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where a dataset keeps its parts; see the module's text for the templates.

    Attributes:
        train: Folder of the normal training images.
        test_good: Folder of the normal test images; None if the dataset has no split of its own.
        defects: Folder or folders of the anomalous images.
        mask: Path of an anomalous image's mask, without extension; None if the dataset has none.
        foreground: Path of a training image's foreground mask, without extension; None if the dataset has none.
        mask_word: A word of the file name and what stands for it in the mask's name.
        train_needs_foreground: Normal images with a foreground mask are for training, those without for testing.
        extensions: Which images count, where masks lie among them.
        group: Pattern whose first bracket in the file name is the group; None = each image for itself.
        recursive: Images may lie in sub-folders.
    """

    train: str
    test_good: str | None = None
    defects: str
    mask: str | None = None
    foreground: str | None = None
    mask_word: tuple[str, str] | None = None
    train_needs_foreground: bool = False
    extensions: tuple[str, ...] = field(default=IMAGE_EXTENSIONS)
    group: str | None = None
    recursive: bool = False

    @property
    def has_categories(self) -> bool:
        """Whether some folder is named as the category."""
        return "{category}" in self.train

    @property
    def has_classes(self) -> bool:
        """Whether categories are classes: one is normal, and all the others are its anomalies."""
        return self.train.endswith("{category}")


_MVTEC = Layout(
    train="{category}/train/good",
    test_good="{category}/test/good",
    defects="{category}/test/{defect}",
    mask="{category}/ground_truth/{defect}/{stem}_mask",
    foreground="{category}/train/foreground_mask/{stem}",
)

LAYOUTS: dict[str, Layout] = {
    "mvtec": _MVTEC,
    "mpdd": _MVTEC,
    "dtd": _MVTEC,
    "wfdd": _MVTEC,
    "btad": Layout(
        train="{category}/train/ok",
        test_good="{category}/test/ok",
        defects="{category}/test/{defect}",
        mask="{category}/ground_truth/{defect}/{stem}",
        foreground="{category}/train/foreground_mask/{stem}",
    ),
    "visa": Layout(
        train="{category}/Data/Images/Normal",
        test_good="{category}/Data/Images/Normal",
        defects="{category}/Data/Images/Anomaly",
        mask="{category}/Data/Masks/Anomaly/{stem}",
        foreground="{category}/Data/Images/foreground_mask/{stem}",
        train_needs_foreground=True,
    ),
    "brats2021": Layout(
        train="train/normal",
        test_good="test/normal",
        defects="test/{defect}",
        mask="ground_truth/{stem}",
        foreground="train/foreground_mask/{stem}",
        mask_word=("flair", "seg"),
        group=r"^(.+?)_flair",  # slices of one patient
    ),
    "headct": Layout(
        train="train/good",
        test_good="test/good",
        defects="test/{defect}",
        mask="ground_truth/{defect}/{stem}_mask",
        foreground="train/foreground_mask/{stem}",
    ),
    "mtd": Layout(
        train="MT_Free/Imgs",
        defects="MT_{defect}/Imgs",
        mask="MT_{defect}/Imgs/{stem}",
        extensions=(".jpg", ".jpeg"),  # the .png beside each picture is its mask
    ),
    "imagenet30": Layout(
        train="train/{category}",
        test_good="test/{category}",
        defects="test/{defect}",
        recursive=True,  # the test pictures lie one folder deeper
    ),
    "dagm": Layout(
        train="{category}/train/normal",
        test_good="{category}/test/normal",
        defects="{category}/test/{defect}",
    ),
    "cityscapes": Layout(
        train="ID",
        defects="OOD",
        group=r"^([a-z-]+_\d{6}_\d{6})",  # patches of one frame, if they are named after it
    ),
    "isic2018": Layout(train="train/NORMAL", test_good="test/NORMAL", defects="test/{defect}"),
}


def read_layout(layout: Layout, root: Path, category: str | None = None) -> Split:
    """Read one category of a dataset.

    Args:
        layout: Row of the table.
        root: The dataset's folder.
        category: Product; None for layouts without categories.

    Returns:
        Training normals, and the test set: normals first, then defects in the order of their folders. Without a split
        of its own, all normals of the dataset are in ``train``.

    Raises:
        LayoutError: If the root, the category, a folder or the images are missing.
    """
    _check_category(layout, root, category)
    reader = _Reader(layout, root, category or "")
    normals = list(reader.normals(layout.train))
    if layout.train_needs_foreground:
        train = [sample for sample in normals if sample.foreground_path is not None]
        good = [sample for sample in normals if sample.foreground_path is None]
        if not train:
            folder = _fill(layout.foreground or "", category=category or "", stem="NAME")
            raise LayoutError(
                f"no normal image of {root / (category or '')} has a foreground mask ({folder}.*), which is what marks"
                " the training images in this layout; use the layout `visa-csv` with the official split file instead"
            )
        if not good:
            raise LayoutError(
                f"every normal image of {root / (category or '')} has a foreground mask, which is what marks the"
                " training images in this layout, so that none is left for the test; use the layout `visa-csv`, or"
                " remove the masks of normal test images"
            )
    else:
        train = normals
        good = list(reader.normals(layout.test_good)) if layout.test_good else []
    defects = list(reader.defects())
    if not defects:
        place = _fill(layout.defects, category=category or "", defect="*")
        raise LayoutError(f"no anomalous images in {root / place}; check that the dataset is complete")
    return Split(train, good + defects)


def list_categories(layout: Layout, root: Path) -> list[str]:
    """Categories that exist below ``root``: folders that hold the layout's training folder. Empty if it has none."""
    above = root / layout.train.partition("{category}")[0]
    if not layout.has_categories or not above.is_dir():
        return []
    folders = sorted(path.name for path in above.iterdir() if path.is_dir() and not path.name.startswith("."))
    return [name for name in folders if (root / _fill(layout.train, category=name)).is_dir()]


def annotation_folders(layout: Layout, root: Path, category: str | None) -> list[Path]:
    """Folders that should hold nothing but masks of known images (deepest ones without a placeholder)."""
    folders = []
    for template in (layout.mask, layout.foreground):
        if template is None:
            continue
        fixed = template.split("{defect}")[0].split("{stem}")[0]
        folder = root / _fill(fixed.rpartition("/")[0], category=category or "")
        if folder.is_dir() and folder != root:
            folders.append(folder)
    return folders


class MaskFinder:
    """Finds masks by name, reading each folder once."""

    def __init__(self) -> None:
        self._folders: dict[Path, dict[str, list[Path]]] = {}

    def find(self, folder: Path, stem: str, extension: str) -> Path | None:
        """The file ``folder/stem.*``: with ``extension`` if there is one, else ``.png``, else the first by name."""
        if folder not in self._folders:
            self._folders[folder] = _by_stem(folder)
        wanted = (extension.lower(), ".png")
        candidates = self._folders[folder].get(stem, [])
        for suffix in wanted:
            for path in candidates:
                if path.suffix.lower() == suffix:
                    return path
        return candidates[0] if candidates else None


def _by_stem(folder: Path) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in list_images(folder) if folder.is_dir() else []:
        found.setdefault(path.stem, []).append(path)
    return found


@dataclass(frozen=True)
class _Reader:
    """One category of one dataset while it is read."""

    layout: Layout
    root: Path
    category: str

    @cached_property
    def finder(self) -> MaskFinder:
        return MaskFinder()

    def normals(self, template: str) -> Iterator[Sample]:
        in_training = template == self.layout.train
        folder = self.root / _fill(template, category=self.category)
        paths = self.images(folder)
        if not paths:
            kinds = " ".join(self.layout.extensions)
            raise LayoutError(f"no image ({kinds}) in {folder}; check that the dataset is complete")
        kind = self.category if self.layout.has_classes else ""
        for path in paths:
            foreground = self.foreground(path) if in_training else None
            yield self.sample(path, label=False, foreground=foreground, kind=kind)

    def defects(self) -> Iterator[Sample]:
        for defect, folder in self.defect_folders():
            for path in self.images(folder):
                yield self.sample(path, label=True, mask=self.mask(path, defect), kind=defect)

    def defect_folders(self) -> Iterator[tuple[str, Path]]:
        filled = _fill(self.layout.defects, category=self.category)
        if "{defect}" not in filled:
            yield "", self.root / filled
            return
        before, _, after = filled.partition("{defect}")
        parent, _, prefix = before.rpartition("/")
        normal = {self.root / _fill(t, category=self.category) for t in (self.layout.train, self.layout.test_good) if t}
        above = self.root / parent
        if not above.is_dir():
            raise LayoutError(f"folder {above} does not exist; check that the dataset is complete")
        for path in sorted(above.iterdir()):
            folder = path / after.strip("/")
            if path.name.startswith(prefix) and not path.name.startswith(".") and folder.is_dir():
                if folder in normal:
                    continue
                yield path.name[len(prefix) :], folder

    def images(self, folder: Path) -> list[Path]:
        found = list_images(folder, recursive=self.layout.recursive)
        return [path for path in found if path.suffix.lower() in self.layout.extensions]

    def mask(self, path: Path, defect: str) -> Path | None:
        if self.layout.mask is None:
            return None
        stem = path.stem.replace(*self.layout.mask_word) if self.layout.mask_word else path.stem
        place = _fill(self.layout.mask, category=self.category, defect=defect, stem=stem)
        extension = ".png" if path.suffix.lower() in (".jpg", ".jpeg") else path.suffix
        return self._find(place, extension, path)

    def foreground(self, path: Path) -> Path | None:
        if self.layout.foreground is None:
            return None
        return self._find(_fill(self.layout.foreground, category=self.category, stem=path.stem), path.suffix, path)

    def _find(self, place: str, extension: str, image: Path) -> Path | None:
        folder, _, stem = place.rpartition("/")
        found = self.finder.find(self.root / folder, stem, extension)
        return None if found == image else found

    def sample(
        self, path: Path, *, label: bool, mask: Path | None = None, foreground: Path | None = None, kind: str = ""
    ) -> Sample:
        name = path.relative_to(self.root).as_posix()
        match = re.search(self.layout.group, path.stem) if self.layout.group else None
        return Sample(path, label, mask, foreground, match.group(1) if match else name, name, kind=kind)


def _check_category(layout: Layout, root: Path, category: str | None) -> None:
    if not root.is_dir():
        raise LayoutError(f"dataset folder {root} does not exist; pass its path, or download the dataset first")
    if not layout.has_categories:
        if category:
            raise LayoutError(f"this dataset has no categories, got category {category!r}; leave it out")
        return
    known = list_categories(layout, root)
    if not known:
        wanted = _fill(layout.train, category="CATEGORY")
        raise LayoutError(f"no category found in {root}; expected folders such as {wanted}; check the path")
    if category is None:
        raise LayoutError(f"`category` is missing; {root} holds {', '.join(known)}")
    if category not in known:
        raise LayoutError(f"category {category!r} does not exist in {root}; it holds {', '.join(known)}")


def _fill(template: str, **values: str) -> str:
    # one pass over the template: a value that looks like a placeholder is never filled again
    return re.sub(r"\{(\w+)\}", lambda match: values.get(match.group(1), match.group(0)), template)
