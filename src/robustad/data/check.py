"""Reads every file of a dataset and lists what is unreadable or does not fit together."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from robustad._checks import check_choice
from robustad._progress import progress
from robustad.data.catalog import CATALOG, load_samples
from robustad.data.classes import ALL
from robustad.data.dataset import draw_boxes
from robustad.data.layouts import Layout, annotation_folders, list_categories
from robustad.data.roots import default_root
from robustad.data.samples import Sample, Split
from robustad.errors import ImageError, LayoutError
from robustad.images import NEARLY_BLACK, binarise_mask, list_images, read_image, read_mask


class Problem(NamedTuple):
    """One fault of a dataset.

    Attributes:
        path: The file or folder it is about.
        text: What is wrong and what to do, in one line.
    """

    path: Path
    text: str


def check_dataset(data: str, root: str | Path | None = None, *, category: str | None = None) -> list[Problem]:
    """Read every file of a dataset and list the faults.

    Found are: a layout that cannot be read, unreadable images and masks, normal images that are nearly black, masks of
    another size than their image, empty masks of anomalous images, anomalous images without a mask where others have
    one, masks without an image, and pictures, and objects (patients, boards), that lie in training and test alike.

    Args:
        data: Name in `CATALOG`.
        root: The dataset's folder; None = its default place.
        category: Check this category only; None = all that exist.

    Returns:
        Faults in the order of their files; empty if all is well.

    Raises:
        ValueError: If ``data`` or ``category`` is unknown.
        LayoutError: If ``root`` is None and the dataset is not in its default place.
        MissingExtra: If the dataset comes with a package that is not installed.
    """
    entry = CATALOG[check_choice("data", data, CATALOG)]
    folder = None if root is None else Path(root).expanduser()
    if folder is None and entry.layout is not None:
        folder = default_root(data)
    chosen: list[str | None] = [category]
    if category is None and entry.classes:
        chosen = [ALL]  # each picture once
    elif category is None and entry.layout is not None:
        chosen = list(list_categories(entry.layout, folder or Path())) or [None]
    elif category is None and entry.categories:
        chosen = list(entry.categories)
    problems: dict[Problem, None] = {}  # a dict keeps the order and drops what two categories share
    for name in chosen:
        problems |= dict.fromkeys(_check_category(data, folder, name, entry.layout))
    return sorted(problems, key=lambda problem: (problem.path.as_posix(), problem.text))


def check_split(split: Split) -> list[Problem]:
    """Read every file of a split and list the faults, as `check_dataset` does for one category.

    Use it for plain folders: ``check_split(load_folder(...))``.
    """
    reader = _Reader()
    samples = progress(split.train + split.test, "checking images")
    problems = [problem for sample in samples for problem in reader.check(sample)]
    defects = [sample for sample in split.test if sample.label]
    if any(sample.has_mask for sample in defects):
        text = "{} is anomalous but has no mask, while others have one; add it, or expect an image score only"
        problems += [Problem(s.path, text.format(s.path)) for s in defects if not s.has_mask]
    return problems + list(_shared_pictures(split, reader)) + list(_shared_groups(split))


def _check_category(data: str, root: Path | None, category: str | None, layout: Layout | None) -> list[Problem]:
    try:
        split = load_samples(data, root, category=category)
    except LayoutError as error:
        where = (root or Path()) / (category or "")
        return [Problem(where, str(error)), *_check_readable(where if where.is_dir() else root)]
    problems = check_split(split)
    if layout is not None and root is not None:
        problems += _orphans(split, annotation_folders(layout, root, category))
    return problems


def _check_readable(root: Path | None) -> Iterator[Problem]:
    """Without a layout nothing fits together, but broken files can still be named."""
    if root is None or not root.is_dir():
        return
    reader = _Reader()
    for path in list_images(root, recursive=True):
        yield from reader.image_problems(path)


class _Reader:
    """Reads each file once, however many samples share it."""

    def __init__(self) -> None:
        self._shapes: dict[Path, tuple[int, ...] | Problem] = {}
        self.digests: dict[Path, str] = {}
        self._brightest: dict[Path, int] = {}

    def image_problems(self, path: Path) -> list[Problem]:
        if path not in self._shapes:
            try:
                image = read_image(path)
                self._shapes[path] = image.shape[:2]
                self._brightest[path] = int(image.max())
                self.digests[path] = hashlib.blake2b(image.tobytes(), digest_size=16).hexdigest()
            except ImageError as error:
                self._shapes[path] = Problem(path, str(error))
        found = self._shapes[path]
        return [found] if isinstance(found, Problem) else []

    def check(self, sample: Sample) -> Iterator[Problem]:
        yield from self.image_problems(sample.path)
        shape = self._shapes[sample.path]
        if isinstance(shape, Problem):
            return
        if not sample.label and (brightest := self._brightest[sample.path]) <= NEARLY_BLACK:
            text = f"{sample.path} is nearly black, its brightest value is {brightest} of 255; stretch its values"
            yield Problem(sample.path, f"{text} (12-bit greys in a 16-bit file: times 16)")
        height, width = shape
        if sample.crop is not None and (sample.crop[2] > width or sample.crop[3] > height):
            yield Problem(sample.path, f"{sample.path} is smaller than its tile {sample.crop}; use the original file")
        if sample.boxes is not None and not draw_boxes(sample.boxes, shape).any():
            yield Problem(sample.path, f"the boxes {sample.boxes} lie outside of {sample.path}; correct them")
        for kind, path in (("mask", sample.mask_path), ("foreground mask", sample.foreground_path)):
            if path is not None:
                yield from _check_mask(kind, path, sample.path, (height, width))


def _check_mask(kind: str, path: Path, image: Path, shape: tuple[int, int]) -> Iterator[Problem]:
    try:
        mask = read_mask(path)
    except ImageError as error:
        yield Problem(path, str(error))
        return
    if mask.shape != shape:
        yield Problem(
            path,
            f"{kind} {path} is {mask.shape[1]} x {mask.shape[0]} pixels but {image} is {shape[1]} x {shape[0]};"
            " save it at the size of its image",
        )
    elif not binarise_mask(mask).any():
        yield Problem(path, f"{kind} {path} marks no pixel; draw it, or remove it")


def _shared_pictures(split: Split, reader: _Reader) -> Iterator[Problem]:
    trained = {_picture(sample, reader): sample.path for sample in split.train if sample.path in reader.digests}
    for sample in split.test:
        twin = trained.get(_picture(sample, reader)) if sample.path in reader.digests else None
        if twin is not None:
            yield Problem(sample.path, f"{sample.path} shows the same picture as training image {twin}; remove one")


def _shared_groups(split: Split) -> Iterator[Problem]:
    """Objects of which some normal pictures are trained on and others tested; defects have no other side to be on."""
    trained, tested = {sample.group for sample in split.train}, dict[str, list[Sample]]()
    for sample in split.test:
        if not sample.label:
            tested.setdefault(sample.group, []).append(sample)
    for group, samples in tested.items():
        if group in trained:
            text = f"{len(samples)} normal test images of {group}, which training images show, too; keep it on one side"
            yield Problem(samples[0].path, text)


def _picture(sample: Sample, reader: _Reader) -> tuple[object, ...]:
    return (reader.digests[sample.path], sample.crop)


def _orphans(split: Split, folders: Collection[Path]) -> Iterator[Problem]:
    used = {path for s in split.train + split.test for path in (s.path, s.mask_path, s.foreground_path) if path}
    stems = {sample.path.with_suffix("") for sample in split.train + split.test}
    for folder in sorted({*folders, *(path.parent for path in used)}):
        for path in list_images(folder, recursive=folder in folders):
            # beside an image, a file of the same stem is its mask
            if path not in used and path.with_suffix("") not in stems:
                yield Problem(path, f"mask {path} belongs to no image; rename it as its image, or remove it")
