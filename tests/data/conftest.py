"""Small made trees on disk."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from download_doubles import Server, isolate, running_server
from PIL import Image


@pytest.fixture
def picture() -> Callable[..., Path]:
    """Write a picture that differs by its path, or with a given grey value or array, and return its path."""

    def write(path: Path, content: int | np.ndarray | None = None, *, size: tuple[int, int] = (12, 10)) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            seed = sum(map(ord, path.as_posix()))
            content = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        elif isinstance(content, int):
            content = np.full((size[1], size[0]), content, np.uint8)
        Image.fromarray(content).save(path)
        return path

    return write


@pytest.fixture
def server() -> Iterator[Server]:
    """A local server with a will of its own."""
    with running_server() as running:
        yield running


@pytest.fixture
def isolated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Downloads and caches stay below ``tmp_path``."""
    isolate(monkeypatch, tmp_path)
