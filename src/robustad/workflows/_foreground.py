"""Foreground masks for training images that came without: made once, kept in the run folder."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from robustad._progress import progress
from robustad.data import Sample
from robustad.foreground import FOREGROUND
from robustad.foreground.files import write_mask
from robustad.images import read_image


def with_foreground(samples: Sequence[Sample], method: str, folder: Path) -> list[Sample]:
    """The samples, each with a foreground mask: its own, or one that ``method`` makes in ``folder``.

    Masks that an interrupted run has made are used again; a crop of an image is left as it is, since its mask would
    have to be cut as well.

    Args:
        samples: Normal images.
        method: A key of `FOREGROUND`; ``none`` changes nothing.
        folder: Where masks are written, ``METHOD/NUMBER-STEM-VERSION.png``: those of another file are not used.
    """
    if method == "none":
        return list(samples)
    find, result = FOREGROUND[method], []
    for number, sample in enumerate(progress(samples, f"{method} foreground")):
        if sample.foreground_path is not None or sample.crop is not None:
            result.append(sample)
            continue
        path = folder / method / f"{number:06d}-{sample.path.stem}-{_version(sample.path)}.png"
        if not path.exists():
            write_mask(find(read_image(sample.path)), path)
        result.append(sample._replace(foreground_path=path))
    return result


def _version(path: Path) -> str:
    """Of a file's name, size and time of change."""
    about = path.stat()
    text = f"{path.resolve()} {about.st_size} {about.st_mtime_ns}"
    return hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=4).hexdigest()
