"""Finished pieces of an evaluation, so that an interrupted one continues where it stopped."""

from __future__ import annotations

import contextlib
import hashlib
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustad.files import atomic_path

Arrays = dict[str, NDArray[Any]]
EDITION = 1
"""Of attacks, corruptions and all else that pieces hold: to be raised whenever one gives other results than before."""


class Store:
    """Named arrays per piece, in memory or in a folder.

    Args:
        folder: Where to keep them; None = in memory, for this evaluation only.
        context: What every piece depends on, e.g. digests of weights and data: other contexts never meet.
    """

    def __init__(self, folder: str | Path | None = None, *, context: str = "") -> None:
        self.folder = None if folder is None else Path(folder)
        self.context = context
        self._memory: dict[str, Arrays] = {}
        self._used: set[str] = set()

    def get(self, *key: object) -> Arrays | None:
        """The arrays of a piece, or None if it has not been finished (or its file is damaged)."""
        name = self._name(key)
        if self.folder is None:
            return self._memory.get(name)
        path = self.folder / name
        self._used.add(name)
        try:
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
                return dict(stored)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile):
            return None

    def put(self, arrays: Arrays, *key: object) -> None:
        """Keep the arrays of a finished piece."""
        name = self._name(key)
        if self.folder is None:
            self._memory[name] = arrays
            return
        self._used.add(name)
        with atomic_path(self.folder / name) as temporary, temporary.open("wb") as stream:
            np.savez(stream, **arrays)  # type: ignore[arg-type]

    def clear(self) -> None:
        """Forget every piece that was asked for or kept here; those of other evaluations stay."""
        self._memory.clear()
        if self.folder is not None:
            for name in self._used:
                (self.folder / name).unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # others are in it, or it was never made
                self.folder.rmdir()

    def _name(self, key: tuple[object, ...]) -> str:
        text = "\n".join(repr(part) for part in (EDITION, self.context, *key))
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest() + ".npz"
