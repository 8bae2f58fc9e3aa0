import io

import numpy as np
import pytest
import torch
from PIL import Image

from robustad.detectors import load_checkpoint, save_checkpoint
from robustad.errors import ImageError, LayoutError
from robustad.images import read_image, resize_image
from robustad.workflows import visualize as module
from robustad.workflows.visualize import VisualizeConfig, grey_levels, visualize


@pytest.fixture
def folder(tmp_path, write_image):
    write_image(tmp_path / "in/dark.png", 60)
    write_image(tmp_path / "in/sub/bright.png", 200)
    return tmp_path / "in"


def panels(path):
    """Number of pictures in a strip: runs of opaque columns."""
    with Image.open(path) as image:
        opaque = np.asarray(image.convert("RGBA"))[0, :, 3] > 0
    return int(opaque[0]) + int((np.diff(opaque.astype(int)) == 1).sum())


def test_without_mask_and_threshold_both_directions_are_drawn(folder, tmp_path, checkpoints):
    shown = visualize(checkpoints["maps"], folder, tmp_path / "out")
    names = [entry.picture.relative_to(tmp_path / "out").as_posix() for entry in shown]
    assert names == [
        "dark.png.raised.png",
        "dark.png.lowered.png",
        "sub/bright.png.raised.png",
        "sub/bright.png.lowered.png",
    ]
    for entry in shown:
        assert panels(entry.picture) == 4
        gain = entry.attacked_score - entry.score
        assert gain < 0 if entry.label else gain > 0


def test_the_threshold_says_which_way(folder, tmp_path, checkpoints):
    shown = visualize(checkpoints["brightness"], folder, tmp_path / "out")
    assert [(entry.path.name, entry.label) for entry in shown] == [("dark.png", True), ("bright.png", False)]
    assert [entry.picture.name for entry in shown] == ["dark.png.lowered.png", "bright.png.raised.png"]
    change = np.array([entry.attacked_score - entry.score for entry in shown])
    np.testing.assert_allclose(change, [-2 / 255, 2 / 255], atol=1e-4)  # the whole ball: brightness is linear
    assert panels(shown[0].picture) == 2, "a detector without maps: image and attacked image"


@pytest.mark.parametrize(("trained", "radius"), [(4 / 255, 4 / 255), (0.0, 2 / 255)])
def test_without_a_radius_it_is_that_of_the_training(folder, tmp_path, checkpoints, trained, radius):
    detector = load_checkpoint(checkpoints["brightness"]).detector
    checkpoint = save_checkpoint(tmp_path / "c", detector, info={"training": {"epsilon": trained}})
    (shown, *_) = visualize(checkpoint, folder, tmp_path / "out", config=VisualizeConfig(label="normal"))
    assert shown.attacked_score - shown.score == pytest.approx(radius, abs=1e-4)


def test_the_mask_has_the_last_word_and_is_drawn(folder, tmp_path, checkpoints):
    (tmp_path / "masks/sub").mkdir(parents=True)
    mask = np.zeros((24, 40), np.uint8)
    Image.fromarray(mask).save(tmp_path / "masks/dark_mask.png")
    mask[5:9, 5:9] = 255
    Image.fromarray(mask).save(tmp_path / "masks/sub/bright.bmp")
    config = VisualizeConfig(masks=tmp_path / "masks", epsilon=2 / 255, steps=2)
    shown = visualize(checkpoints["calibrated"], folder, tmp_path / "out", config=config)
    assert [entry.label for entry in shown] == [False, True]
    assert [panels(entry.picture) for entry in shown] == [5, 5]


def test_a_label_given_beats_everything(folder, tmp_path, checkpoints):
    for label, count in (("normal", 2), ("anomalous", 2), ("both", 4)):
        config = VisualizeConfig(label=label, steps=1)
        shown = visualize(checkpoints["calibrated"], folder, tmp_path / label, config=config)
        assert len(shown) == count
        assert label == "both" or {entry.label for entry in shown} == {label == "anomalous"}


def test_epsilon_zero_shows_the_map_only(folder, tmp_path, checkpoints):
    (entry,) = visualize(checkpoints["maps"], folder / "dark.png", tmp_path / "out", config=VisualizeConfig(epsilon=0))
    assert entry.picture.name == "dark.png.map.png" and entry.attacked_score is None and entry.label is None
    assert panels(entry.picture) == 2


def test_scores_are_the_detectors_and_the_twin_stays_in_the_ball(folder, tmp_path, checkpoints, monkeypatch):
    drawn = []
    monkeypatch.setattr(module, "strip", lambda image, **parts: drawn.append((image, parts)) or _png())
    config = VisualizeConfig(epsilon=4 / 255, steps=5)
    shown = visualize(checkpoints["calibrated"], folder, tmp_path / "out", config=config)
    pixels = resize_image(read_image(folder / "dark.png"), 32)
    image, parts = drawn[0]
    np.testing.assert_array_equal(image, pixels)
    change = parts["attacked_image"].astype(int) - pixels
    assert np.abs(change).max() == 4
    with torch.no_grad():
        batch = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
        expected = load_checkpoint(checkpoints["calibrated"]).detector(batch)
    assert shown[0].score == pytest.approx(expected.scores.item(), abs=1e-4)
    assert f"{shown[0].score:.4g}" in parts["captions"]["image"]
    assert "4/255" in parts["captions"]["attacked_image"]
    assert len({(parts["vmin"], parts["vmax"]) for _, parts in drawn}) == 1, "one scale for all"


def _png():
    buffer = io.BytesIO()
    Image.new("RGB", (1, 1)).save(buffer, format="PNG")
    return buffer.getvalue()


def test_restarts_are_repeatable(folder, tmp_path, checkpoints):
    config = VisualizeConfig(restarts=2, steps=2, label="normal", seed=3)
    first = visualize(checkpoints["maps"], folder, tmp_path / "a", config=config)
    second = visualize(checkpoints["maps"], folder, tmp_path / "b", config=config)
    assert [entry.attacked_score for entry in first] == [entry.attacked_score for entry in second]


def test_bad_files_are_reported_in_line(folder, tmp_path, checkpoints):
    (folder / "a.png").touch()
    (tmp_path / "masks").mkdir()
    Image.new("L", (3, 3), 255).save(tmp_path / "masks/dark.png")
    config = VisualizeConfig(masks=tmp_path / "masks", label="normal", steps=1)
    shown = visualize(checkpoints["maps"], folder, tmp_path / "out", config=config)
    assert [entry.error is None for entry in shown] == [False, False, True]
    assert "empty" in shown[0].error
    assert "3 x 3 pixels but" in shown[1].error and "40 x 24" in shown[1].error


@pytest.mark.parametrize(
    ("options", "text"),
    [({"epsilon": 8}, "8/255"), ({"label": "good"}, "auto"), ({"steps": 0}, "steps"), ({"restarts": 0}, "restarts")],
)
def test_options_that_are_wrong(options, text):
    with pytest.raises(ValueError, match=text):
        VisualizeConfig(**options)


def test_nothing_to_draw(tmp_path, checkpoints):
    (tmp_path / "in").mkdir()
    with pytest.raises(LayoutError, match="no images found"):
        visualize(checkpoints["maps"], tmp_path / "in", tmp_path / "out")
    (tmp_path / "in/a.png").touch()
    with pytest.raises(ImageError, match="empty"):
        visualize(checkpoints["maps"], tmp_path / "in", tmp_path / "out")
    with pytest.raises(LayoutError, match="masks"):
        visualize(
            checkpoints["maps"], tmp_path / "in", tmp_path / "out", config=VisualizeConfig(masks=tmp_path / "masks")
        )
    assert not (tmp_path / "out").exists()


def test_a_radius_is_written_as_people_do():
    assert [grey_levels(value) for value in (8 / 255, 0.5 / 255, 0.03, 1.0)] == ["8/255", "0.001961", "0.03", "255/255"]


def test_an_image_is_not_its_own_mask(folder, tmp_path, checkpoints):
    config = VisualizeConfig(masks=folder, epsilon=0)
    assert [
        panels(entry.picture) for entry in visualize(checkpoints["maps"], folder, tmp_path / "out", config=config)
    ] == [2, 2]
