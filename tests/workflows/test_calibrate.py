import numpy as np
import pytest

from robustad.cli.app import main
from robustad.detectors import load_checkpoint, save_checkpoint
from robustad.errors import ImageError, LayoutError
from robustad.inference import Predictor
from robustad.workflows._data import DataConfig, fingerprint, load_split
from robustad.workflows.calibrate import CalibrateConfig, calibrate

QUARTER = CalibrateConfig(max_false_alarm_rate=0.25)


@pytest.fixture
def folder(tmp_path, write_image):
    """Forty images, each a little brighter than the one before."""
    for number in range(40):
        write_image(tmp_path / f"good/{number:02}.png", 20 + 5 * number, size=(32, 32))
    return tmp_path / "good"


@pytest.fixture
def trained(folder, tmp_path, checkpoints):
    """A checkpoint that says what it was trained on."""
    data = DataConfig(normal=folder)
    split = load_split(data, seed=3)
    info = {"data": data.resolved().to_dict(), "seed": 3, "fingerprint": fingerprint(split.train)}
    detector = load_checkpoint(checkpoints["brightness"]).detector
    return save_checkpoint(tmp_path / "trained", detector, info=info), split


def scores_of(checkpoint, samples):
    return [scored.score for batch in Predictor(checkpoint).stream([s.path for s in samples]) for scored in batch]


def test_images_that_the_training_set_aside_decide(trained):
    checkpoint, split = trained
    assert len(split.test) == 8
    before = load_checkpoint(checkpoint)
    found = calibrate(checkpoint, config=QUARTER)
    scores = sorted(scores_of(checkpoint, split.test))
    assert found.calibration.threshold == pytest.approx(scores[-2]), "floor(9 / 4) of nine lie there or above"
    assert (found.out, found.replaced, found.num_failed, found.num_objects) == (checkpoint, None, 0, 8)
    after = load_checkpoint(checkpoint)
    assert after.calibration == found.calibration and after.info == before.info
    assert calibrate(checkpoint, config=QUARTER).replaced == found.calibration


def test_pictures_of_few_objects_say_so(folder, tmp_path, checkpoints, capsys):
    data = DataConfig(normal=folder, group_by="([0-9])[0-9]")  # four objects, ten pictures each
    split = load_split(data)
    info = {"data": data.resolved().to_dict(), "seed": 0, "fingerprint": fingerprint(split.train)}
    checkpoint = save_checkpoint(tmp_path / "c", load_checkpoint(checkpoints["brightness"]).detector, info=info)
    assert calibrate(checkpoint, config=QUARTER).num_objects == 1
    assert main(["calibrate", str(checkpoint), "--max-false-alarm-rate", "0.25"]) == 0
    assert "show 1 object(s) only" in capsys.readouterr().err


def test_images_of_ones_own_decide_and_the_checkpoint_stays(trained, tmp_path, write_image):
    checkpoint, _ = trained
    for number in range(7):
        write_image(tmp_path / f"more/{number}.png", 100 + number, size=(32, 32))
    found = calibrate(checkpoint, tmp_path / "more", out=tmp_path / "decides", config=QUARTER)
    assert found.calibration.num_images == 7 and found.out == tmp_path / "decides" and found.num_objects is None
    assert load_checkpoint(checkpoint).calibration is None
    rows = [s for batch in Predictor(found.out).stream((tmp_path / "more").iterdir()) for s in batch]
    assert np.mean([row.anomalous for row in rows]) == pytest.approx(1 / 7), (
        "two of eight, the threshold's own not above"
    )


def test_images_of_the_training_are_refused(trained, folder):
    checkpoint, split = trained
    with pytest.raises(ValueError, match=r"32 of 40 images were trained on .*leave `normal` out"):
        calibrate(checkpoint, folder, config=QUARTER)
    calibrate(checkpoint, [sample.path for sample in split.test], config=QUARTER)


def test_what_is_not_known_has_to_be_given(trained, folder, checkpoints, tmp_path):
    with pytest.raises(ValueError, match=r"not known.*give `normal`"):
        calibrate(checkpoints["maps"], config=QUARTER)
    (folder / "00.png").rename(folder / "99.png")
    with pytest.raises(ValueError, match="not the same any more"):
        calibrate(trained[0], config=QUARTER)
    with pytest.raises(LayoutError):
        calibrate(trained[0], tmp_path / "nothing", config=QUARTER)


def test_without_a_readable_image_nothing_is_written(trained, tmp_path):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/1.png").write_bytes(b"no image")
    with pytest.raises(ImageError, match="not one image"):
        calibrate(trained[0], tmp_path / "bad", config=QUARTER)
    assert load_checkpoint(trained[0]).calibration is None


def test_the_command_says_what_was_found_and_info_repeats_it(trained, folder, capsys):
    checkpoint = str(trained[0])
    assert main(["calibrate", checkpoint, "--max-false-alarm-rate", "0.25"]) == 0
    told = capsys.readouterr().out
    assert "conformal, from 8 images: at most 25.00% false alarms expected, and with 95 % confidence" in told
    assert main(["info", checkpoint]) == 0
    assert told.splitlines()[0].removeprefix("threshold ") in capsys.readouterr().out
    (folder.parent / "more").mkdir()
    (folder.parent / "more/bad.png").write_bytes(b"no image")
    assert main(["calibrate", checkpoint, "--normal", *map(str, [s.path for s in trained[1].test]),
                 str(folder.parent / "more"), "--max-false-alarm-rate", "0.25"]) == 3  # fmt: skip
    assert "instead of" in capsys.readouterr().out


@pytest.mark.parametrize("words, code, text", [
    (["--max-false-alarm-rate", "0"], 2, "between 0 and 1"),
    (["--max-false-alarm-rate", "0.01"], 1, "needs at least 99 normal images"),
])  # fmt: skip
def test_what_cannot_be_kept_is_one_line(trained, capsys, words, code, text):
    assert main(["calibrate", str(trained[0]), *words]) == code
    assert text in capsys.readouterr().err
