import resource
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch

from robustad.detectors import Brightness, BrightnessConfig, Checkpoint, load_checkpoint
from robustad.images import read_image, resize_image
from robustad.inference import Journal, Picture, Predictor, Source, write_table
from robustad.types import Calibration


def test_scores_are_those_of_the_detector_whatever_the_batch_size(tmp_path, checkpoints, write_image):
    paths = [write_image(tmp_path / f"{level}.png", level) for level in range(40, 240, 20)]
    pixels = np.stack([resize_image(read_image(path), 32) for path in paths])
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        expected = load_checkpoint(checkpoints["maps"]).detector(images)
    for batch_size in (1, 3, 16):
        batches = list(Predictor(checkpoints["maps"], batch_size=batch_size).stream(paths))
        assert [len(batch) for batch in batches[:-1]] == [batch_size] * (len(batches) - 1)
        scored = [item for batch in batches for item in batch]
        np.testing.assert_allclose([item.score for item in scored], expected.scores, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(scored[7].anomaly_map, expected.anomaly_maps[7], rtol=1e-3, atol=1e-4)


def test_the_threshold_decides_and_equality_is_normal(tmp_path, checkpoints, write_image):
    dark, bright = write_image(tmp_path / "dark.png", 60), write_image(tmp_path / "bright.png", 200)
    (batch,) = Predictor(checkpoints["brightness"]).stream([dark, bright])
    assert [item.anomalous for item in batch] == [True, False]
    calibration = Calibration(threshold=-1.0, max_false_alarm_rate=0.1, num_images=9, method="quantile")
    white = Picture(np.full((32, 32, 3), 255, np.uint8), None)
    predictor = Predictor(Checkpoint(detector=Brightness(BrightnessConfig(image_size=32)), calibration=calibration))
    (batch,) = predictor.stream(["white"], read=lambda path: white)
    assert (batch[0].score, batch[0].anomalous) == (-1.0, False)
    (batch,) = Predictor(predictor.detector).stream(["white"], read=lambda path: white)
    assert batch[0].anomalous is None


def test_bad_files_stay_in_line(tmp_path, checkpoints, write_image):
    good = write_image(tmp_path / "good.png")
    (tmp_path / "empty.png").touch()
    batches = list(
        Predictor(checkpoints["maps"], batch_size=2).stream([tmp_path / "empty.png", tmp_path / "no.png", good, good])
    )
    assert [[item.error is None for item in batch] for batch in batches] == [[False, False], [True, True]]
    assert batches[1][0].score == pytest.approx(batches[1][1].score)


def test_a_score_that_is_not_finite_is_an_error(tmp_path, checkpoints, write_image):
    predictor = Predictor(checkpoints["maps"])
    with torch.no_grad():
        next(predictor.detector.parameters()).fill_(float("nan"))
    (batch,) = predictor.stream([write_image(tmp_path / "a.png")])
    assert batch[0].score is None and "nan" in batch[0].error


def test_devices_that_do_not_exist(checkpoints):
    for name in ("gpu", "cuda:77"):
        with pytest.raises(ValueError, match="cannot be used"):
            Predictor(checkpoints["maps"], device=name)


def test_what_was_predicted_without_gradients_can_be_attacked_afterwards(checkpoints):
    predictor = Predictor(checkpoints["maps"])
    images = torch.rand(2, 3, 32, 32)
    predictor(images)
    images.requires_grad_(True)
    predictor.detector(images).anomaly_maps.sum().backward()
    assert images.grad.abs().sum() > 0


def _stream_and_write(checkpoint, folder, count):
    """Score ``count`` invented files, keep the journal and write the table, as `predict` does."""
    picture = Picture(np.full((32, 32, 3), 90, np.uint8), None)
    predictor = Predictor(checkpoint, batch_size=256, num_workers=2)
    sources = (Source(Path(f"folder/{number:06}.png"), "x") for number in range(count))
    with Journal(folder / "journal", {}) as journal:
        for batch in predictor.stream(sources, read=lambda path: Picture(picture.pixels.copy(), None)):
            journal.append({"path": str(item.source.path), "score": item.score, "error": None} for item in batch)
        write_table(folder / f"{count}.csv", journal.rows(), ["path", "score", "error"])
        journal.remove()


def test_memory_is_flat_over_100_000_images(tmp_path, checkpoints):
    _stream_and_write(checkpoints["brightness"], tmp_path, 2_000)  # warm up
    tracemalloc.start()
    try:
        _stream_and_write(checkpoints["brightness"], tmp_path, 2_000)
        small = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        _stream_and_write(checkpoints["brightness"], tmp_path, 8_000)
        large = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # Python's table of interned names, which those of files enter, may double meanwhile; pixels alone would be 18 MB
    assert large < 1.3 * small + 8e6, "four times the images, the same peak"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    _stream_and_write(checkpoints["brightness"], tmp_path, 100_000)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 60_000, "kilobytes"
    with (tmp_path / "100000.csv").open() as stream:
        assert sum(1 for _ in stream) == 100_001


@pytest.mark.parametrize("images, text", [
    (np.zeros((2, 8, 8, 3), np.float32), "uint8 .*got float32"),
    (np.zeros((2, 8, 8, 3), np.uint16), "got uint16"),
    (np.zeros((2, 3, 8, 8), np.uint8), r"got uint8 \(2, 3, 8, 8\)"),
    (torch.full((2, 3, 8, 8), 200.0), r"in \[0, 1\], got 200 to 200; .*divided by 255"),
    (torch.full((2, 3, 8, 8), -1.0), "got -1 to -1"),
])  # fmt: skip
def test_images_in_other_units_are_refused(checkpoints, images, text):
    with pytest.raises(ValueError, match=text):
        Predictor(checkpoints["brightness"])(images)
