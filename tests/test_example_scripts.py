"""Every example runs, on small made images, and leaves behind what it promises."""

import contextlib
import io
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from robustad.evaluation.health import CHECKS
from robustad.synthesis import APPEARANCES, SHAPES

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(name, *arguments):
    """Run an example as a script, in this process: importing torch anew for each would take most of the time."""
    output = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(output):
        patch.setattr(sys, "argv", [name, *map(str, arguments)])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    return output.getvalue()


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    folder = tmp_path_factory.mktemp("good")
    rng = np.random.default_rng(0)
    for number in range(12):
        pixels = rng.normal(128, 12, (48, 48, 3))
        pixels[12:36, 12:36] += 60
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{number:02}.png")
    return folder


@pytest.fixture(scope="module")
def trained(good, tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("runs") / "example"
    output = run("train_on_a_folder.py", good, "--run-dir", run_dir, "--steps", 3, "--image-size", 64)
    return run_dir, output


def test_train_on_a_folder(trained):
    run_dir, output = trained
    assert "3 updates" in output and "12 images scored (0 unreadable)" in output
    rows = (run_dir / "scores.csv").read_text().splitlines()
    assert len(rows) == 13  # a head and one row per image
    assert len(list((run_dir / "overlays").rglob("*.png"))) == 12


def test_attack_a_detector(trained, good):
    output = run("attack_a_detector.py", trained[0] / "checkpoint", good, "--epsilon", 4, "--steps", 2)
    pairs = [line.split(": ")[1].split(" -> ") for line in output.splitlines() if " -> " in line]
    assert len(pairs) == 12
    assert all(float(worst) >= float(clean) for clean, worst in pairs)
    assert any(float(worst) > float(clean) for clean, worst in pairs)
    moved = float(output.splitlines()[-1].split(": ")[1].split()[0])
    assert 3.9 <= moved <= 4.0


def test_evaluate_your_own_module(tmp_path):
    output = run("evaluate_your_own_module.py", "--root", tmp_path, "--max-images", 120)
    figures = {tuple(line.split()[:3]): float(line.split()[3]) for line in output.splitlines() if "/255 " in line}
    clean = figures["distance-to-mean", "none", "0/255"]
    assert clean > 0.9
    assert figures["distance-to-mean", "adaptive-pgd", "16/255"] < clean
    verdicts = [line for line in output.splitlines() if " - " in line]
    assert [line.split(" - ")[0].removeprefix("passed ") for line in verdicts] == list(CHECKS)


def test_pseudo_anomaly_gallery(good, tmp_path):
    out = tmp_path / "gallery.png"
    count = len(APPEARANCES) * (len(SHAPES) - 1)  # the whole image has no outline to draw
    assert f"{count} pseudo-anomalies" in run("pseudo_anomaly_gallery.py", good, "--out", out, "--size", 48)
    picture = np.asarray(Image.open(out).convert("RGB"))
    assert picture.shape[0] > 300 and len(np.unique(picture.reshape(-1, 3), axis=0)) > 100


def test_examples_are_short():
    for path in EXAMPLES.glob("*.py"):
        assert len(path.read_text().splitlines()) <= 60, path.name
    assert {path.name for path in EXAMPLES.glob("*.py")} == {
        "train_on_a_folder.py",
        "attack_a_detector.py",
        "evaluate_your_own_module.py",
        "pseudo_anomaly_gallery.py",
    }
