"""What a pseudo-anomaly looks like: another content for the region, made from the same image."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from robustad.synthesis.draws import Draws, Floats
from robustad.synthesis.regions import Region

_GREY = 2 / 255  # channels of a monochrome camera's picture differ by no more than this
Appearance = Callable[[Region, Draws], Floats]
"""``appearance(region, draws)``: new colours ``(3, K)`` for the K pixels of a region, not yet clamped to [0, 1]."""
# numbers of `Draws.uniform` that appearances read: 11, 12 shift; 13 turn; 14 strength; 15 sign; 16 gain or offset;
# 17-19 colour; 20 grey or colour


def strength(draws: Draws) -> float:
    """Strength of a change, log-uniform from 0.06 to 0.7."""
    return float(0.06 * (0.7 / 0.06) ** draws.uniform[14])


def light(region: Region, draws: Draws) -> Floats:
    """Darker (70 %) or brighter, by a gain or by an offset."""
    change = strength(draws) * (-1.0 if draws.uniform[15] < 0.7 else 1.0)
    return region.before * (1 + change) if draws.uniform[16] < 0.5 else region.before + 0.6 * change


def moved(region: Region, draws: Draws) -> Floats:
    """The image itself, shifted around its borders and possibly transposed (CutPaste)."""
    (height, width), window = region.size, region.window
    down, right = int(draws.uniform[11] * height), int(draws.uniform[12] * width)
    rows, columns = np.arange(window.top, window.bottom), np.arange(window.left, window.right)
    if height == width and draws.uniform[13] < 0.5:
        sources = np.add.outer((rows + right) % width, (columns + down) % height * width)
    else:
        sources = np.add.outer((rows + down) % height * width, (columns + right) % width)
    return np.take(region.image, sources.reshape(-1)[region.local], axis=1)


def texture(region: Region, draws: Draws) -> Floats:
    """The image with smooth noise on it."""
    noise = draws.texture(region.window).reshape(-1)[region.local]
    return region.before + 0.5 * strength(draws) * noise


def tint(region: Region, draws: Draws) -> Floats:
    """Mostly one random colour, grey in 70 % of the cases, and always in grey images: colour would give it away."""
    colour = np.array(draws.uniform[17:20], dtype=np.float32)
    if draws.uniform[20] < 0.7 or np.ptp(region.image, axis=0).max() <= _GREY:
        colour[:] = colour[0]
    values = 0.3 * region.before
    values += 0.7 * colour[:, None]
    return values


APPEARANCES: dict[str, Appearance] = {"light": light, "moved": moved, "texture": texture, "tint": tint}
