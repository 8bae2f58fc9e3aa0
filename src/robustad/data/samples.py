"""What a dataset is made of: samples, and the split into training and test."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

Box = tuple[int, int, int, int]


class Sample(NamedTuple):
    """One image of a dataset, described by where its parts lie on disk.

    Attributes:
        path: Image file.
        label: True = anomalous.
        mask_path: Ground-truth mask, or None: for a normal image nothing is marked, for an anomalous one without
            ``boxes`` it means that only its image label is known.
        foreground_path: Mask of the object, or None = the whole image is foreground.
        group: Samples of one group (exposures of one tile, tiles of one board) never lie on both sides of a split, and
            intervals are bootstrapped over groups. The sample's own name where nothing is grouped.
        name: Stable relative name in POSIX form; splits are derived from it, never from an absolute path.
        crop: Part of the image that is used, as (left, top, right, bottom) in pixels, right and bottom excluded.
        boxes: Anomalous rectangles in pixels of the whole image, ends excluded, for datasets that mark boxes.
        kind: What the dataset says it shows: its class, its kind of defect, or the other dataset that it comes from.
            Empty where nothing is said.
    """

    path: Path
    label: bool
    mask_path: Path | None
    foreground_path: Path | None
    group: str
    name: str
    crop: Box | None = None
    boxes: tuple[Box, ...] | None = None
    kind: str = ""

    @property
    def has_mask(self) -> bool:
        """Whether it is known which pixels are anomalous; True for normal images, where none is."""
        return not self.label or self.mask_path is not None or self.boxes is not None


class Split(NamedTuple):
    """A dataset, ready to use: normal images for training, and a test set.

    Attributes:
        train: Normal samples.
        test: Normal and anomalous samples.
        set_aside: Whether normal test samples were set aside here, from a pool that others may have trained on.
    """

    train: list[Sample]
    test: list[Sample]
    set_aside: bool = False
