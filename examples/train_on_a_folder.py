"""Train a detector on a folder of good images, then score other images with it.

python examples/train_on_a_folder.py good/ --images new/ --minutes 5
"""

# ruff: noqa: T201
from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import robustad
from robustad.workflows.predict import PredictConfig


def main() -> None:
    """Train, then score."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("normal", type=Path, help="folder of good images")
    parser.add_argument("--images", type=Path, help="images to score afterwards; default: the good ones")
    parser.add_argument("--run-dir", type=Path, default=Path("runs/example"), help="new folder for all results")
    parser.add_argument("--minutes", type=float, default=5.0, help="time of training")
    parser.add_argument("--steps", type=int, help="number of updates, instead of a time")
    parser.add_argument("--image-size", type=int, default=128)
    given = parser.parse_args()

    # A recipe is a tree of frozen dataclasses: replace what you want to differ.
    recipe = robustad.fit_config("default")
    config = dataclasses.replace(
        recipe,
        data=robustad.DataConfig(data="folder", normal=given.normal),
        model=dataclasses.replace(recipe.model, image_size=given.image_size),
        training=dataclasses.replace(recipe.training, max_time=60 * given.minutes, max_steps=given.steps),
    )
    fitted = robustad.fit(config, given.run_dir)
    print(f"{fitted.steps} updates in {fitted.seconds:.0f} s, checkpoint {fitted.checkpoint}")

    overlays = PredictConfig(overlays=given.run_dir / "overlays")
    table = given.run_dir / "scores.csv"
    done = robustad.predict(fitted.checkpoint, given.images or given.normal, table, config=overlays)
    print(f"{done.num_images} images scored ({done.num_failed} unreadable): {done.out}")


if __name__ == "__main__":
    main()
