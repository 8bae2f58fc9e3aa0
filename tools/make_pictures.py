"""Make the pictures of the documents: DeepPCB boards, which may be published (MIT).

Cuts tiles of 128 pixels out of defect-free templates, trains the default recipe on them for a fixed number of updates,
attacks twelve tiles around a defect, and draws every third of them by score under attack, each strip with its own
colour scale. Then draws the gallery of pseudo-anomalies. Plots of measured figures come from ``results/``.

Run: python tools/make_pictures.py DEEPPCB [--steps 600]      (about five minutes on two cores)
     python tools/make_pictures.py                            plots only
"""

from __future__ import annotations

import argparse
import dataclasses
import random
import runpy
import shutil
import sys
from pathlib import Path

import speed_picture
from PIL import Image, ImageDraw

import robustad
from robustad.data.deeppcb import read_boxes
from robustad.evaluation import Results
from robustad.visual import Course, time_curves
from robustad.workflows.visualize import Shown, VisualizeConfig

ROOT = Path(__file__).parents[1]
PICTURES = ROOT / "docs" / "pictures"
TILE, BOARD = 128, 640
PER_BOARD, NUM_DEFECTS, SHOWN = 4, 12, (0, 3, 6, 9)


def cut_normals(base: Path, out: Path) -> None:
    """Tiles at random places of every second template."""
    rng = random.Random(0)
    for path in sorted(base.glob("group*/*/*_temp.jpg"))[::2]:
        with Image.open(path) as picture:
            for _ in range(PER_BOARD):
                x, y = rng.randrange(BOARD - TILE), rng.randrange(BOARD - TILE)
                picture.convert("L").crop((x, y, x + TILE, y + TILE)).save(out / f"{path.stem}_{x}_{y}.png")


def cut_defects(base: Path, out: Path, masks: Path) -> None:
    """Tiles around the first marked defect of evenly spread test boards, and the marks of all defects in them."""
    tests = sorted(base.glob("group*/*/*_test.jpg"))
    for path in tests[7 :: len(tests) // NUM_DEFECTS][:NUM_DEFECTS]:
        boxes = read_boxes(path.parent.with_name(f"{path.parent.name}_not") / path.name.replace("_test.jpg", ".txt"))
        left, top, right, bottom = boxes[0]
        x, y = (min(max((a + b) // 2 - TILE // 2, 0), BOARD - TILE) for a, b in ((left, right), (top, bottom)))
        mask = Image.new("L", (BOARD, BOARD))
        for box in boxes:
            ImageDraw.Draw(mask).rectangle((box[0], box[1], box[2] - 1, box[3] - 1), fill=255)
        with Image.open(path) as picture:
            picture.convert("L").crop((x, y, x + TILE, y + TILE)).save(out / f"{path.stem}.png")
        mask.crop((x, y, x + TILE, y + TILE)).save(masks / f"{path.stem}.png")


def train(normal: Path, run: Path, steps: int) -> Path:
    """The default recipe on a plain ViT: tiles lie at random places, so mean normal images would say nothing."""
    recipe = robustad.fit_config("default")
    config = dataclasses.replace(
        recipe,
        data=robustad.DataConfig(data="folder", normal=normal),
        model=dataclasses.replace(recipe.model, backbone="vit_plain"),
        training=dataclasses.replace(recipe.training, max_steps=steps),
    )
    return robustad.fit(config, run).checkpoint


def stack(shown: list[Shown], out: Path, width: int = 1000) -> None:
    """Some of the strips, highest score first, under each other."""
    ranked = sorted(shown, key=lambda entry: -(entry.attacked_score or 0))
    strips = [Image.open(ranked[number].picture or "").convert("RGBA") for number in SHOWN]
    height = sum(strip.height for strip in strips) + 8 * (len(strips) - 1)
    sheet, top = Image.new("RGBA", (strips[0].width, height)), 0
    for strip in strips:
        sheet.paste(strip, (0, top))
        top += strip.height + 8
    sheet.resize((width, round(height * width / sheet.width)), Image.Resampling.LANCZOS).save(out, optimize=True)


def draw_times(results: Path = ROOT / "results" / "time-to-robustness.json", out: Path = PICTURES) -> None:
    """Attacked image AUROC against training time, as far as it is measured."""
    if not results.is_file():
        return
    courses = {
        data: Course({name: tuple(zip(*curve, strict=True)) for name, curve in fact["curves"].items()}, fact["mark"])
        for data, fact in Results.read(results).details["courses"].items()
    }
    (out / f"{results.stem}.svg").write_bytes(time_curves(courses, metric="image AUROC, worst case at 2/255"))


def main() -> None:
    """Make all pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("deeppcb", type=Path, nargs="?", help="folder of DeepPCB: robustad download deeppcb")
    parser.add_argument("--steps", type=int, default=600, help="training updates")
    parser.add_argument("--checkpoint", type=Path, help="a detector that an earlier call trained, outside of --work")
    parser.add_argument("--work", type=Path, default=Path("runs/pictures"), help="folder for tiles and the detector")
    given = parser.parse_args()
    draw_times()
    speed_picture.main()
    if given.deeppcb is None:
        return
    base = given.deeppcb / "PCBData"
    for name in ("normal", "defects", "masks", "strips", "run"):  # what is ours alone: the folder is anybody's
        shutil.rmtree(given.work / name, ignore_errors=True)
    normal, defects, masks = (given.work / name for name in ("normal", "defects", "masks"))
    for folder in (normal, defects, masks):
        folder.mkdir(parents=True)
    cut_normals(base, normal)
    cut_defects(base, defects, masks)
    checkpoint = given.checkpoint or train(normal, given.work / "run", given.steps)
    look = VisualizeConfig(epsilon=4 / 255, steps=20, restarts=2, masks=masks)
    # one call per tile: each strip has its own colour scale, which shows where; the captions say how much
    shown = [robustad.visualize(checkpoint, tile, given.work / "strips", config=look)[0] for tile in defects.iterdir()]
    stack(shown, PICTURES / "attacked-boards.png")
    gallery = ["gallery", str(base), "--match", "*_temp.jpg", "--seed", "200"]
    sys.argv = [*gallery, "--out", str(PICTURES / "pseudo-anomalies.png")]
    runpy.run_path(str(ROOT / "examples" / "pseudo_anomaly_gallery.py"), run_name="__main__")


if __name__ == "__main__":
    main()
