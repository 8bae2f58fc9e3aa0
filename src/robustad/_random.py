"""Seeds that are derived, never shared: the same (seed, parts) gives the same stream on any rank or worker."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import torch


def derive_seed(seed: int, *parts: int | str) -> int:
    """A 63-bit seed that depends on every part, e.g. ``derive_seed(seed, "pseudo", epoch, sample)``."""
    text = "/".join(str(part) for part in (seed, *parts))
    return int.from_bytes(hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=8).digest(), "little") >> 1


def torch_generator(seed: int, *parts: int | str, device: str = "cpu") -> torch.Generator:
    """A `torch.Generator` seeded by `derive_seed`."""
    import torch

    return torch.Generator(device).manual_seed(derive_seed(seed, *parts))


def numpy_generator(seed: int, *parts: int | str) -> np.random.Generator:
    """A `numpy.random.Generator` seeded by `derive_seed`."""
    import numpy as np

    return np.random.default_rng(derive_seed(seed, *parts))
