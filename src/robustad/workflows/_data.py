"""Which images a workflow is about: options, and the samples behind them."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from robustad._checks import check_choice
from robustad._configs import from_plain
from robustad.data import CATALOG, Sample, Split, load_folder, load_samples
from robustad.data.partition import Part


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
    """What to train or test on.

    Attributes:
        data: Name of a dataset, or ``folder`` for plain folders.
        root: Folder of the dataset; by default where `robustad download` puts it.
        category: Category within the dataset.
        normal: Folder of normal images (``folder``).
        anomalous: Folder of anomalous images (``folder``); may be left out.
        masks: Folder of the anomalous images' masks (``folder``); may be left out.
        foreground: Folder of the normal images' foreground masks (``folder``); may be left out.
        test_normal: Folder of normal images to test on; by default a fifth of ``normal`` is set aside.
        download: Fetch the dataset first if it is not there.
    """

    data: str = "folder"
    root: Path | None = None
    category: str | None = None
    normal: Path | None = None
    anomalous: Path | None = None
    masks: Path | None = None
    foreground: Path | None = None
    test_normal: Path | None = None
    download: bool = False

    def __post_init__(self) -> None:
        check_choice("data", self.data, CATALOG)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {k: str(v) if isinstance(v, Path) else v for k, v in dataclasses.asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> DataConfig:
        """The inverse of `to_dict`."""
        paths = {"root", "normal", "anomalous", "masks", "foreground", "test_normal"}
        plain: dict[str, Any] = {k: Path(v) if k in paths and v is not None else v for k, v in values.items()}
        return from_plain(cls, plain)

    @property
    def label(self) -> str:
        """Short name for tables, e.g. ``elpv:mono``."""
        return f"{self.data}:{self.category}" if self.category else self.data


def load_split(config: DataConfig, *, part: Part = "all", seed: int = 0) -> Split:
    """Samples of a config.

    Args:
        config: See `DataConfig`.
        part: Half of the test set: ``all``, ``dev`` or ``final``.
        seed: Which normal images are set aside for testing, where the dataset does not say.

    Raises:
        ValueError: If neither a dataset root nor a folder of normal images is given, or a name does not exist.
        LayoutError: If the folders do not look as they should.
    """
    if config.download and config.data not in ("elpv", "digits", "folder"):
        from robustad.data.download import download_dataset

        download_dataset(config.data, config.root)
    if config.data == "folder" and config.normal is not None:
        return load_folder(
            config.normal,
            anomalous=config.anomalous,
            masks=config.masks,
            foreground=config.foreground,
            test_normal=config.test_normal,
            seed=seed,
        )
    if config.data == "folder" and config.root is None:
        raise ValueError("no images given: pass `--normal DIR` (a folder of normal images), or `--data NAME`")
    return load_samples(config.data, config.root, category=config.category, part=part, seed=seed)


def fingerprint(samples: Sequence[Sample]) -> str:
    """Short digest of which files a list of samples names, in order, and of their sizes."""
    digest = hashlib.sha256()
    for sample in samples:
        size = sample.path.stat().st_size if sample.path.is_file() else -1
        digest.update(f"{sample.name}\0{size}\0{sample.crop}\n".encode())
    return digest.hexdigest()[:16]


def thinned(samples: Sequence[Sample], limit: int | None) -> list[Sample]:
    """At most ``limit`` samples, evenly out of both classes, in their order; each class keeps at least one."""
    if limit is None or len(samples) <= limit:
        return list(samples)
    chosen: set[int] = set()
    for label in (False, True):
        members = [index for index, sample in enumerate(samples) if sample.label == label]
        count = min(max(1, round(limit * len(members) / len(samples))), limit - 1, len(members))
        chosen |= {members[round(i * (len(members) - 1) / max(1, count - 1))] for i in range(count)}
    return [samples[index] for index in sorted(chosen)]
