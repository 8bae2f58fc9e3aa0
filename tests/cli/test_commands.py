"""Each command from its words to its files."""

import csv
import io
import json
import sys

import pytest
from PIL import Image

from robustad.cli import main


@pytest.fixture
def folder(tmp_path, write_image, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number in range(3):
        write_image(tmp_path / f"in/{number}.png", 60 * number + 40)
    return tmp_path / "in"


def read(path):
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_predict(folder, tmp_path, checkpoints, capsys):
    words = ["predict", str(checkpoints["calibrated"]), "--overlays", "maps", "in/0.png", "in/*.png"]
    assert main(words) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert (
        "4 images scored, " in printed.out and "anomalous: scores.csv" in printed.out and "--map-range" in printed.out
    )
    assert [row["path"] for row in read(tmp_path / "scores.csv")] == ["in/0.png", "in/0.png", "in/1.png", "in/2.png"]
    assert len(list((tmp_path / "maps").rglob("*.overlay.png"))) == 3


def test_predict_a_list_with_a_bad_file(folder, tmp_path, checkpoints, capsys, monkeypatch):
    listed = io.TextIOWrapper(io.BytesIO(b"in/0.png\nin/none\xe9.png\n"), encoding="utf-8")
    monkeypatch.setattr(sys, "stdin", listed)
    assert main(["predict", str(checkpoints["maps"]), "-", "--out", "a.jsonl", "--batch-size", "1"]) == 3
    printed = capsys.readouterr()
    assert printed.out == "1 images scored (the checkpoint has no threshold: no decisions): a.jsonl\n"
    assert printed.err.count("\n") == 1 and "1 of 2 files" in printed.err
    assert "in/none\\udce9.png does not exist" in printed.err
    rows = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [row["error"] is None for row in rows] == [True, False]


def test_predict_options_from_a_file(folder, tmp_path, checkpoints):
    (tmp_path / "c.yaml").write_text(
        f"checkpoint: {checkpoints['maps']}\nimages: [in]\nout: b.parquet\nmap_range: [0, 1]\noverlays: m\n"
    )
    assert main(["predict", "--config", "c.yaml", "--num-workers", "1"]) == 0
    assert (tmp_path / "b.parquet").exists()


def test_visualize(folder, tmp_path, checkpoints, capsys):
    words = ["visualize", str(checkpoints["calibrated"]), "in", "--epsilon", "4/255", "--steps", "2", "--out", "p"]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "3 pictures: p" in printed and "under attack" in printed
    assert len(list((tmp_path / "p").iterdir())) == 3
    (folder / "bad.png").touch()
    assert main(words) == 3
    assert "bad.png is empty" in capsys.readouterr().err


def test_masks(folder, tmp_path, capsys):
    assert main(["masks", "in", "--method", "none"]) == 0
    assert f"3 masks: {tmp_path / 'in_foreground_mask'}" in capsys.readouterr().out
    (folder / "bad.png").touch()
    assert main(["masks", "in", "--out", "m", "--sheet", "s.png", "--method", "none", "--keep"]) == 3
    assert "bad.png is empty" in capsys.readouterr().err


def test_data_check(folder, capsys):
    assert main(["data", "check", "in"]) == main(["data", "check", "--root", "in", "--data", "folder"]) == 0
    assert capsys.readouterr().out == "no problems\nno problems\n"
    (folder / "bad.png").touch()
    assert main(["data", "check", "in"]) == 1
    printed = capsys.readouterr()
    assert "bad.png is empty" in printed.out and printed.err == "robustad: 1 problems\n"


def test_download(capsys, monkeypatch, tmp_path):
    from robustad.workflows import download

    assert main(["download", "--list"]) == 0
    assert "brats2021" in capsys.readouterr().out
    assert main(["download", "brats2021", "--root", str(tmp_path / "b")]) == 1
    printed = capsys.readouterr()
    assert printed.out.startswith("1. ") and printed.err.count("\n") == 1 and "by hand" in printed.err
    calls = []
    monkeypatch.setattr(download, "download_dataset", lambda *args, **kw: calls.append((args, kw)) or tmp_path)
    monkeypatch.setattr(download, "download_weights", lambda *args, **kw: calls.append((args, kw)) or tmp_path)
    assert main(["download", "mvtec", "--no-masks"]) == 0
    assert main(["download", "weights", "--dataset", "mvtec", "--category", "bottle", "--target", "w"]) == 0
    assert calls[0] == (("mvtec", None), {"masks": False})
    assert calls[1][0][:2] == ("mvtec", "bottle")
    assert main(["download"]) == main(["download", "weights"]) == 2


def test_info(checkpoints, capsys):
    assert main(["info", str(checkpoints["calibrated"])]) == 0
    printed = capsys.readouterr().out
    for text in (
        "patchguard",
        "32 x 32 pixels",
        "-0.5 (quantile, from 100 images: at most 1.00% false alarms)",
        "vit_plain",
    ):
        assert text in printed
    assert main(["info", str(checkpoints["maps"])]) == 0
    assert "none: scores only" in capsys.readouterr().out


def test_import_official(tmp_path, capsys, monkeypatch, checkpoints):
    from robustad.detectors import load_checkpoint
    from robustad.workflows import import_official

    sizes = []
    detector = load_checkpoint(checkpoints["maps"]).detector
    monkeypatch.setattr(import_official, "load_official", lambda path, image_size: sizes.append(image_size) or detector)
    (tmp_path / "a.pth").write_bytes(b"x")
    assert main(["import-official", str(tmp_path / "a.pth"), str(tmp_path / "out"), "--image-size", "112"]) == 0
    printed = capsys.readouterr()
    assert sizes == [112] and printed.out == f"checkpoint: {tmp_path / 'out'}\n" and printed.err == ""
    with Image.new("RGB", (8, 8)) as image:
        image.save(tmp_path / "i.png")
    assert main(["predict", str(tmp_path / "out"), str(tmp_path / "i.png"), "--out", str(tmp_path / "s.csv")]) == 0


def test_import_official_with_normal_images(folder, capsys, monkeypatch):
    from robustad.detectors import Cobra, CobraConfig
    from robustad.workflows import import_official

    def released(path, image_size):
        return Cobra(CobraConfig(width=2, views=1)).eval()

    monkeypatch.setattr(import_official, "load_official", released)
    folder.with_name("a.pth").write_bytes(b"x")
    assert main(["import-official", "a.pth", "bare"]) == 0
    printed = capsys.readouterr()
    assert printed.out == "checkpoint: bare\n" and printed.err.count("\n") == 1 and "--normal DIR" in printed.err
    assert main(["import-official", "a.pth", "out", "--normal", "in"]) == 0
    assert capsys.readouterr().err == ""
    assert main(["predict", "out", "in", "--out", "s.csv"]) == 0 and len(read(folder.with_name("s.csv"))) == 3
    assert main(["import-official", "a.pth", "again", "--root", "in"]) == 2
