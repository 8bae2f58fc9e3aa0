"""What a detector learns from: pseudo-anomalies made of normal images, every shape by every appearance, as a picture.

python examples/pseudo_anomaly_gallery.py good/ --out gallery.png
"""

# ruff: noqa: T201
from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from robustad.images import list_images, read_image, resize_image
from robustad.synthesis import APPEARANCES, SHAPES, PseudoAnomalies, PseudoAnomalyConfig
from robustad.visual import outline


def made(pixels: NDArray[np.uint8], shape: str, appearance: str, seed: int) -> NDArray[np.uint8]:
    """A normal picture ``(S, S, 3)`` with one anomaly of the kind asked for, outlined."""
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255  # (S,S,3) -> (1,3,S,S)
    generator = PseudoAnomalies(PseudoAnomalyConfig(shapes={shape: 1}, appearances={appearance: 1}))
    changed, mask = generator(image, torch.ones_like(image[:, 0], dtype=torch.bool), seeds=[seed])
    picture = changed[0].mul(255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
    return outline(picture, mask[0].numpy())


def main() -> None:
    """Draw the gallery."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path, help="folder of normal images, with sub-folders")
    parser.add_argument("--match", default="*", help="only files whose name fits, e.g. *_temp.jpg")
    parser.add_argument("--out", type=Path, default=Path("gallery.png"))
    parser.add_argument("--size", type=int, default=192, help="side of the pictures, pixels")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()

    paths = [path for path in list_images(given.images, recursive=True) if path.match(given.match)]
    shapes = [shape for shape in SHAPES if shape != "whole"]  # a change of the whole image has no outline to show
    figure = Figure(figsize=(2 * len(shapes), 2 * len(APPEARANCES)), layout="constrained", facecolor="white")
    grid = figure.subplots(len(APPEARANCES), len(shapes), squeeze=False)
    for row, appearance in enumerate(APPEARANCES):
        for column, shape in enumerate(shapes):
            number = row * len(shapes) + column
            path = paths[number * len(paths) // grid.size]
            pixels = resize_image(read_image(path), given.size)
            grid[row, column].imshow(made(pixels, shape, appearance, given.seed + number))
            grid[row, column].set(xticks=[], yticks=[], title=shape if row == 0 else "")
        grid[row, 0].set_ylabel(appearance)
    figure.savefig(given.out, dpi=100)
    print(f"{grid.size} pseudo-anomalies: {given.out}")


if __name__ == "__main__":
    main()
