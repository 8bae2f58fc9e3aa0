"""Bad input through the real command line: one line, non-zero exit, nothing half-written, no traceback."""

import json
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from robustad.cli import main


@pytest.fixture
def place(tmp_path, write_image, monkeypatch):
    """A working folder with a usable data set in ``set``."""
    monkeypatch.chdir(tmp_path)
    for number in range(10):
        write_image(tmp_path / f"set/normal/{number}.png", 20 * number + 20)
    for number in range(2):
        write_image(tmp_path / f"set/anomalous/{number}.png", 70 * number + 20)
        (tmp_path / "set/masks").mkdir(exist_ok=True)
        mask = np.zeros((24, 40), np.uint8)
        mask[3:9, 4:12] = 255
        Image.fromarray(mask).save(tmp_path / f"set/masks/{number}.png")
    return tmp_path


def files():
    return {path for path in Path().rglob("*") if path.is_file()}


def refused(capsys, *words, code=1):
    """Run; return the one line that it must print, having written nothing."""
    before = files()
    assert main([str(word) for word in words]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("robustad: error: ") and captured.err.count("\n") == 1
    assert "Traceback" not in captured.err
    assert files() == before
    return captured.err


FIT = ("fit", "--run-dir", "run", "--max-steps", "1", "--model.backbone", "vit_plain", "--image-size", "32")


def bomb(path):
    """A PNG of some bytes that declares 60,000 x 60,000 pixels."""
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 100)), (b"IEND", b""))
    body = b"".join(struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


def test_the_set_is_usable(place):
    assert main(["data", "check", "set"]) == 0


@pytest.mark.parametrize("words", [(*FIT, "--normal"), ("masks",), ("data", "check")])
def test_a_missing_folder(place, capsys, words):
    assert "nowhere does not exist" in refused(capsys, *words, "nowhere")


def test_an_empty_folder(place, capsys, checkpoints):
    (place / "empty").mkdir()
    assert "no images in empty" in refused(capsys, *FIT, "--normal", "empty")
    assert "no images" in refused(capsys, "masks", "empty")
    assert "no images found" in refused(capsys, "predict", checkpoints["maps"], "empty")
    assert "no images found" in refused(capsys, "visualize", checkpoints["maps"], "empty")


@pytest.mark.parametrize(
    ("name", "text"), [("truncated", "cut off"), ("empty", "0 bytes"), ("bomb", "pixels"), ("text", "not an image")]
)
def test_images_that_cannot_be_read(place, capsys, checkpoints, name, text):
    folder = place / "odd"
    folder.mkdir()
    bad = folder / f"{name}.png"
    match name:
        case "truncated":
            bad.write_bytes((place / "set/normal/0.png").read_bytes()[:70])
        case "empty":
            bad.touch()
        case "bomb":
            bomb(bad)
        case "text":
            bad.write_text("not a picture")
    for words in (("predict", checkpoints["maps"], "odd"), ("visualize", checkpoints["maps"], bad), ("masks", "odd")):
        line = refused(capsys, *words)
        assert f"{name}.png" in line and text in line
    for number in range(9):
        shutil.copy(place / f"set/normal/{number}.png", folder)
    assert main([*FIT, "--normal", "odd", "--test-normal", "set/anomalous"]) == 1
    line = capsys.readouterr().err
    assert f"{name}.png" in line and text in line and line.count("\n") == 1
    assert main(["predict", str(checkpoints["maps"]), "odd", "--out", "s.csv"]) == 3
    assert main(["data", "check", "odd"]) == 1


def test_a_mask_of_another_size(place, capsys, checkpoints):
    Image.new("L", (7, 9), 255).save("set/masks/1.png")
    line = refused(capsys, "visualize", checkpoints["maps"], "set/anomalous/1.png", "--masks", "set/masks")
    assert "7 x 9 pixels but" in line and "40 x 24" in line
    assert main(["data", "check", "set"]) == 1
    assert "7 x 9 pixels but" in capsys.readouterr().out
    line = refused(
        capsys, "test", checkpoints["maps"], "--data", "folder", "--root", "set", "--out", "o", "--no-health"
    )
    assert "7 x 9 pixels but" in line


def test_a_mask_without_an_image(place, capsys):
    shutil.copy("set/masks/1.png", "set/masks/7.png")
    folders = ("--normal", "set/normal", "--anomalous", "set/anomalous", "--masks", "set/masks")
    assert "7.png has no image" in refused(capsys, *FIT, *folders)
    assert main(["data", "check", "set"]) == 1


COBRA = ("fit", "--run-dir", "run", "--max-steps", "1", "--detector", "cobra", "--model.width", "2")


@pytest.mark.parametrize("words", [FIT, COBRA], ids=["patchguard", "cobra"])
def test_a_category_that_does_not_exist(place, capsys, words):
    for name in ("bottle", "cable"):
        shutil.copytree("set/normal", f"mvtec/{name}/train/good")
    line = refused(capsys, *words, "--data", "mvtec", "--root", "mvtec", "--category", "botle")
    assert "botle" in line and "bottle" in line and "cable" in line


def test_images_too_small_for_the_network(place, capsys):
    line = refused(capsys, *COBRA, "--normal", "set/normal", "--image-size", "16", code=2)
    assert "`image_size` must be at least 32 for COBRA, got 16; smaller images are enlarged to it" in line


def test_options_that_turn_out_not_to_fit_leave_the_run_folder_free(place, capsys):
    shutil.copytree("set/anomalous", "few")
    words = (*COBRA, "--image-size", "32", "--normal", "few", "--losses.filter_share", "0.05")
    assert "at least 5" in refused(capsys, *words)
    assert not Path("run").exists()


@pytest.mark.parametrize("verb", ["fit", "visualize", "test"])
def test_grey_levels_instead_of_a_radius(place, capsys, checkpoints, verb):
    words = {
        "fit": (*FIT, "--normal", "set/normal", "--epsilon", "8"),
        "visualize": ("visualize", checkpoints["maps"], "set/normal", "--epsilon", "8"),
        "test": ("test", checkpoints["maps"], "--epsilons", "0", "8"),
    }[verb]
    assert "for 8 grey levels pass 8/255" in refused(capsys, *words, code=2)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--certify", "-1"), "--certify must be above 0"),
        (("--certify", "inf"), "--certify: Expected a float. Got value: inf"),
        (("--certify", "0.1", "--certify-radii", "1", "inf"), "Expected a float. Got value: inf"),
        (("--certify", "0.1", "--certify-radii", "1", "1"), "--certify-radii holds 1 twice"),
        (("--certify", "0.1", "--certify-samples", "0"), "--certify-samples must be at least 1"),
        (("--sticker-draws", "0"), "--sticker-draws must be at least 1"),
        (("--draws", "0"), "--draws must be at least 1"),
        (("--image-size", "0"), "--image-size must be at least 1"),
        (("--stickers", "2"), "--stickers must be in (0, 1], got 2"),
        (("--universal", "8"), "--universal must be in [0, 1], got 8"),
        (("--epsilons", "1/255", "1/255"), "--epsilons holds 0.00392157 twice"),
        (("--epsilons", "-1/255"), "got -1/255"),
        (("--norm", "l2", "--epsilons", "inf"), "got inf"),
        (("--strong-steps", "0"), "--strong-steps must be at least 1"),
        (("--queries", "0"), "--queries must be at least 1"),
        (("--where", "ground"), "--where must be one of"),
        (("--attacks", "spas"), "--attacks must be one of"),
    ],
)
def test_options_of_a_test_are_called_as_they_were_typed(place, capsys, checkpoints, words, text):
    assert text in refused(capsys, "test", checkpoints["maps"], *words, code=2)


def test_an_unknown_key_of_a_yaml_file(place, capsys):
    Path("c.yaml").write_text("training:\n  learnrate: 1\n")
    line = refused(capsys, *FIT, "--config", "c.yaml", code=2)
    assert "'training.learnrate' in c.yaml" in line and "learning_rate" in line and "weight_decay" in line


def test_a_checkpoint_of_another_version(place, capsys, checkpoints):
    shutil.copytree(checkpoints["maps"], "old")
    config = json.loads(Path("old/config.json").read_text())
    Path("old/config.json").write_text(json.dumps({**config, "format": 99, "robustad": "7.0"}))
    line = refused(capsys, "predict", "old", "set/normal")
    assert "robustad 7.0" in line and "format 99" in line


def test_a_checkpoint_that_is_damaged(place, capsys, checkpoints):
    shutil.copytree(checkpoints["maps"], "bad")
    weights = Path("bad/model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-10])
    assert "does not belong to" in refused(capsys, "info", "bad")
    assert "no checkpoint folder" in refused(capsys, "info", "nowhere")
    Path("bad/config.json").write_text("{")
    assert "not JSON" in refused(capsys, "predict", "bad", "set/normal")


@pytest.mark.parametrize(
    "words",
    [
        ("predict", "bare", "set/normal", "--out", "s.csv"),
        ("visualize", "bare", "set/normal", "--out", "p"),
        ("test", "bare", "--data", "folder", "--root", "set", "--out", "o"),
        ("test", "{maps}", "--transfer", "bare", "--data", "folder", "--root", "set", "--out", "o"),
    ],
)
def test_a_checkpoint_that_has_no_memory_of_normal_images(place, capsys, checkpoints, words):
    from robustad.detectors import Cobra, CobraConfig, save_checkpoint

    save_checkpoint("bare", Cobra(CobraConfig(width=2, views=1)))
    line = refused(capsys, *(word.format(**checkpoints) for word in words))
    assert "bare: the cobra detector has no memory of normal images yet" in line and "--normal DIR" in line
    assert main(["info", "bare"]) == 0


def test_a_pickle_instead_of_safetensors(place, capsys):
    import torch

    torch.save({"weight": torch.zeros(1)}, "model.pth")
    line = refused(capsys, "predict", "model.pth", "set/normal")
    assert "pickle" in line and "import-official" in line
    assert "PatchGuard" in refused(capsys, "import-official", "model.pth", "out")


def no_space(*_, **__):
    raise OSError(28, "No space left on device")


def test_a_full_disk_under_the_journal(place, capsys, checkpoints, monkeypatch):
    from robustad.inference import Journal

    with monkeypatch.context() as patched:
        patched.setattr(Journal, "append", no_space)
        assert main(["predict", str(checkpoints["maps"]), "set/normal", "--out", "s.csv"]) == 1
    line = capsys.readouterr().err
    assert "No space left on device; free some space" in line and line.count("\n") == 1
    assert not Path("s.csv").exists()
    assert main(["predict", str(checkpoints["maps"]), "set/normal", "--out", "s.csv"]) == 0


def test_a_full_disk_while_saving(place, capsys, checkpoints, monkeypatch):
    """Every file goes through `atomic_path`, whose last step before the name is fsync."""
    import os

    monkeypatch.setattr(os, "fsync", no_space)
    model = checkpoints["maps"]
    assert "No space left" in refused(capsys, "visualize", model, "set/normal", "--steps", "1", "--out", "p")
    assert "No space left" in refused(capsys, "masks", "set/normal", "--method", "none", "--out", "m")
    assert "No space left" in refused(capsys, *FIT, "--normal", "set/normal")
    assert main(["predict", str(model), "set/normal", "--out", "s.csv", "--overlays", "o"]) == 1
    assert "No space left" in capsys.readouterr().err
    assert not Path("s.csv").exists() and not [path for path in files() if path.suffix == ".part"]
    monkeypatch.undo()


def test_a_real_small_disk(place, checkpoints):
    """The same on a real file system of 20 kB, where mounting one is allowed."""
    Path("small").mkdir()
    script = f"""
mount -t tmpfs -o size=20k none small || exit 77
{sys.executable} -m robustad predict {checkpoints["maps"]} set/normal --out small/s.csv --overlays small/maps
code=$?
find small -type f > listing
exit $code
"""
    command = ["unshare", "--mount", "--map-root-user", "sh", "-c", script]
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare")
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 1 or "robustad" not in done.stderr:
        assert done.returncode != 0, "ten overlays cannot fit"
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()[:80]}")
    assert "No space left on device" in done.stderr and done.stderr.count("\n") == 1
    left = [Path(line).name for line in Path("listing").read_text().splitlines()]
    assert "s.csv" not in left and not [name for name in left if name.endswith(".part")]
    for name in left:
        assert name in ("s.csv.partial.jsonl", "map_range.json") or name.endswith(".overlay.png")


def test_debug_shows_the_traceback(place, checkpoints):
    with pytest.raises(ValueError, match="nowhere"):
        main(["predict", str(checkpoints["maps"]), "nowhere", "--debug"])
