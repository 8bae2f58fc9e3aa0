"""Errors that a caller may want to catch, each written for the person who meets it."""

from __future__ import annotations


class RobustadError(Exception):
    """Base of every error class of this package; its text is one line: what, which, what to do."""


class CheckpointError(RobustadError, ValueError):
    """A checkpoint cannot be read: missing file, other format, other version, wrong tensors."""


class LayoutError(RobustadError, ValueError):
    """A dataset folder does not look as its layout says."""


class ImageError(RobustadError, ValueError):
    """One image or mask file cannot be used: unreadable, truncated, empty, too large."""


class DownloadError(RobustadError, OSError):
    """A download failed, is incomplete, or its archive is unsafe."""


class MissingExtra(RobustadError, ImportError):  # noqa: N818 - the name says what is missing
    """An optional dependency is not installed; the text names the extra that brings it."""


class TrainingError(RobustadError, RuntimeError):
    """Training cannot go on: its loss is no number any more."""
