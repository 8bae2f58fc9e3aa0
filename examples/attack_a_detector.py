"""Attack a trained detector: how far can a perturbation that nobody sees move the scores of these images?

python examples/attack_a_detector.py runs/example/checkpoint defects/ --anomalous --epsilon 2
"""

# ruff: noqa: T201
from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

import robustad
from robustad.images import list_images, read_image, resize_image


def main() -> None:
    """Print each image's score before and after."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("images", type=Path, help="folder of images of one kind")
    parser.add_argument("--anomalous", action="store_true", help="they are defects: push their scores down, not up")
    parser.add_argument("--epsilon", type=float, default=2.0, help="radius in grey levels of 255")
    parser.add_argument("--steps", type=int, default=20)
    given = parser.parse_args()

    detector = robustad.load_checkpoint(given.checkpoint).detector
    paths = list_images(given.images)
    pixels = np.stack([resize_image(read_image(path), detector.image_size) for path in paths])
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255  # (N,H,W,3) -> (N,3,H,W) in [0, 1]
    labels = torch.full((len(images),), given.anomalous)

    # What is attacked is the reported score itself. The attack keeps its best iterate over all restarts, stays within
    # epsilon and within [0, 1], and leaves the model as it was.
    attack = robustad.PGD(steps=given.steps, restarts=2)
    objective = robustad.ImageObjective(detector, labels)
    random_starts = torch.Generator().manual_seed(0)
    attacked = attack(objective, images, epsilon=given.epsilon / 255, generator=random_starts)

    with torch.no_grad():
        before, after = detector(images).scores, detector(attacked).scores
    for path, clean, worst in zip(paths, before.tolist(), after.tolist(), strict=True):
        print(f"{path.name}: {clean:+.3f} -> {worst:+.3f}")
    print(f"largest change of a pixel: {float((attacked - images).abs().max()) * 255:.2f} grey levels")


if __name__ == "__main__":
    main()
