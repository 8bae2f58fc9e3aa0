import csv
import io
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from robustad.errors import ImageError, LayoutError
from robustad.inference import Predictor
from robustad.workflows import predict as module
from robustad.workflows.predict import PredictConfig, predict


@pytest.fixture
def folder(tmp_path, write_image):
    for number in range(7):
        write_image(tmp_path / f"in/{'sub/' if number % 2 else ''}{number}.png", 30 * number + 20, size=(50, 30))
    return tmp_path / "in"


def read(path):
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_a_folder_becomes_a_table_in_order(folder, tmp_path, checkpoints):
    result = predict(checkpoints["brightness"], folder, tmp_path / "out/scores.csv")
    rows = read(result.out)
    assert [row["path"] for row in rows] == [
        str(folder / n) for n in ("0.png", "2.png", "4.png", "6.png", *(f"sub/{i}.png" for i in (1, 3, 5)))
    ]
    assert list(rows[0]) == ["path", "score", "anomalous", "error"]
    assert [row["anomalous"] == "true" for row in rows] == [float(row["score"]) > -0.5 for row in rows]
    assert (result.num_images, result.num_failed, result.num_anomalous) == (
        7,
        0,
        sum(float(r["score"]) > -0.5 for r in rows),
    )
    assert 0 < result.num_anomalous < 7
    assert [path.name for path in result.out.parent.iterdir()] == ["scores.csv"]


def test_without_threshold_there_is_no_verdict(folder, tmp_path, checkpoints):
    result = predict(checkpoints["maps"], folder, tmp_path / "scores.jsonl")
    assert result.num_anomalous is None
    assert set(json.loads(result.out.read_text().splitlines()[0])) == {"path", "score", "error"}


def test_overlays_mirror_the_folders_on_one_scale(folder, tmp_path, checkpoints):
    config = PredictConfig(overlays=tmp_path / "maps", batch_size=2)
    result = predict(checkpoints["maps"], folder, tmp_path / "scores.csv", config=config)
    found = {path.relative_to(tmp_path / "maps").as_posix() for path in (tmp_path / "maps").rglob("*.png")}
    assert found == {f"{'sub/' if n % 2 else ''}{n}.png.overlay.png" for n in range(7)}
    with Image.open(tmp_path / "maps/0.png.overlay.png") as image:
        assert image.size == (50, 30), "the picture's own shape"
    first = next(Predictor(checkpoints["maps"], batch_size=2).stream(sorted(folder.glob("*.png"))))
    values = np.concatenate([scored.anomaly_map.ravel() for scored in first])
    assert result.map_range.low == pytest.approx(np.median(values), abs=1e-5)
    again = PredictConfig(overlays=tmp_path / "again", map_range=tuple(result.map_range))
    predict(checkpoints["maps"], folder / "6.png", tmp_path / "b.csv", config=again)
    assert (tmp_path / "again/6.png.overlay.png").read_bytes() == (tmp_path / "maps/6.png.overlay.png").read_bytes()


def test_a_bad_file_is_a_row(folder, tmp_path, checkpoints):
    (folder / "3b.png").write_bytes((folder / "2.png").read_bytes()[:60])
    result = predict(checkpoints["maps"], folder, tmp_path / "scores.csv")
    assert (result.num_images, result.num_failed) == (8, 1)
    (bad,) = [row for row in read(result.out) if row["error"]]
    assert bad["path"].endswith("3b.png") and bad["score"] == "" and "3b.png" in bad["error"]
    assert result.first_error == bad["error"]


def test_a_list_with_duplicates(folder, tmp_path, checkpoints):
    stdin = io.StringIO(f"{folder}/4.png\n{folder}/0.png\n{folder}/4.png\n")
    result = predict(checkpoints["brightness"], "-", tmp_path / "scores.csv", stdin=stdin)
    rows = read(result.out)
    assert [row["path"][-5:] for row in rows] == ["4.png", "0.png", "4.png"]
    assert rows[0]["score"] == rows[2]["score"]


def interrupt_after(monkeypatch, batches):
    stream = Predictor.stream

    def short(self, *args, **kwargs):
        for number, batch in enumerate(stream(self, *args, **kwargs)):
            if number == batches:
                raise KeyboardInterrupt
            yield batch

    monkeypatch.setattr(Predictor, "stream", short)


@pytest.mark.parametrize("extension", ["csv", "jsonl", "parquet"])
def test_an_interrupted_run_goes_on_where_it_stopped(folder, tmp_path, checkpoints, monkeypatch, extension):
    config = PredictConfig(batch_size=2, overlays=tmp_path / "maps")
    whole = predict(checkpoints["maps"], folder, tmp_path / f"whole.{extension}", config=config)
    pictures = {path: path.read_bytes() for path in (tmp_path / "maps").rglob("*.png")}
    for path in pictures:
        path.unlink()
    out = tmp_path / f"scores.{extension}"
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        interrupt_after(patched, 2)
        predict(checkpoints["maps"], folder, out, config=config)
    assert not out.exists()
    partial = tmp_path / f"scores.{extension}.partial.jsonl"
    assert len(partial.read_text().splitlines()) == 1 + 4
    counted = []
    score = Predictor._score
    monkeypatch.setattr(Predictor, "_score", lambda self, batch: counted.append(len(batch)) or score(self, batch))
    resumed = PredictConfig(batch_size=2, overlays=tmp_path / "maps", resume=True)
    result = predict(checkpoints["maps"], folder, out, config=resumed)
    assert sum(counted) == 3, "only what was missing"
    assert result.num_images == 7 and not partial.exists()
    if extension == "parquet":
        assert out.read_bytes() == whole.out.read_bytes()
    else:
        assert out.read_text() == whole.out.read_text()
    assert {path: path.read_bytes() for path in (tmp_path / "maps").rglob("*.png")} == pictures, "the same scale too"


def test_resuming_with_other_images_or_another_checkpoint_is_refused(folder, tmp_path, checkpoints, monkeypatch):
    out = tmp_path / "scores.csv"
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        interrupt_after(patched, 1)
        predict(checkpoints["maps"], folder, out, config=PredictConfig(batch_size=2))
    resume = PredictConfig(resume=True)
    with pytest.raises(ValueError, match="other images"):
        predict(checkpoints["maps"], folder / "sub", out, config=resume)
    with pytest.raises(ValueError, match="another checkpoint"):
        predict(checkpoints["brightness"], folder, out, config=resume)
    other = shutil.copytree(checkpoints["maps"], tmp_path / "other") / "config.json"
    changed = json.loads(other.read_text())
    changed["config"]["sigma"] = 3.0
    other.write_text(json.dumps(changed))
    with pytest.raises(ValueError, match="another checkpoint"):
        predict(other.parent, folder, out, config=resume)
    with pytest.raises(ValueError, match="interrupted run"):
        predict(checkpoints["maps"], folder, out)
    assert predict(checkpoints["maps"], folder, out, config=resume).num_images == 7


def test_a_full_disk_keeps_the_rows_and_the_old_table(folder, tmp_path, checkpoints, monkeypatch):
    out = tmp_path / "scores.csv"
    out.write_text("old")

    def full(*_):
        raise OSError(28, "No space left on device", str(out))

    with monkeypatch.context() as patched, pytest.raises(OSError, match="No space"):
        patched.setattr(module, "write_table", full)
        predict(checkpoints["maps"], folder, out)
    assert out.read_text() == "old"
    result = predict(checkpoints["maps"], folder, out, config=PredictConfig(resume=True))
    assert len(read(result.out)) == 7


def test_nothing_to_score(tmp_path, checkpoints):
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad").mkdir()
    for name in ("a.png", "b.png"):
        (tmp_path / "bad" / name).touch()
    with pytest.raises(LayoutError, match="no images found"):
        predict(checkpoints["maps"], tmp_path / "empty", tmp_path / "scores.csv")
    with pytest.raises(ImageError, match=r"none of the 2 images.*a\.png is empty"):
        predict(checkpoints["maps"], tmp_path / "bad", tmp_path / "scores.csv")
    with pytest.raises(ImageError, match=r"^\S+a\.png is empty"):
        predict(checkpoints["maps"], tmp_path / "bad/a.png", tmp_path / "scores.csv")
    assert {path.name for path in tmp_path.iterdir()} == {"empty", "bad"}


def test_overlays_that_cannot_be(folder, tmp_path, checkpoints, write_image):
    out = tmp_path / "scores.csv"
    for overlays in (folder, folder / "maps", folder / "sub/deep"):
        with pytest.raises(ValueError, match="lies inside"):
            predict(checkpoints["maps"], [folder], out, config=PredictConfig(overlays=overlays))
    with pytest.raises(ValueError, match="no anomaly maps"):
        predict(checkpoints["brightness"], folder, out, config=PredictConfig(overlays=tmp_path / "maps"))
    with pytest.raises(ValueError, match="must be a folder"):
        predict(checkpoints["maps"], folder, out, config=PredictConfig(overlays=folder / "0.png"))
    assert not out.exists() and not (tmp_path / "maps").exists()


def test_resuming_with_other_overlays_is_refused(folder, tmp_path, checkpoints, monkeypatch):
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        interrupt_after(patched, 1)
        config = PredictConfig(batch_size=2, overlays=tmp_path / "maps")
        predict(checkpoints["maps"], folder, tmp_path / "s.csv", config=config)
    for changes in ({"overlays": tmp_path / "others"}, {"overlays": tmp_path / "maps", "map_range": (0.0, 1.0)}):
        with pytest.raises(ValueError, match=f"begun with another {list(changes)[-1]}"):
            predict(checkpoints["maps"], folder, tmp_path / "s.csv", config=PredictConfig(resume=True, **changes))
    with pytest.raises(ValueError, match="`map_range` is the scale of `overlays`; give their folder as well"):
        PredictConfig(map_range=(0.0, 1.0))


def test_the_scale_of_an_earlier_run_is_not_taken(folder, tmp_path, checkpoints):
    maps = tmp_path / "maps"
    maps.mkdir()
    (maps / "map_range.json").write_text('{"map_range": [100, 200]}')
    config = PredictConfig(overlays=maps, resume=True)
    assert predict(checkpoints["maps"], folder, tmp_path / "s.csv", config=config).map_range.high < 100
