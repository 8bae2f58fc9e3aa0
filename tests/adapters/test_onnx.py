"""ONNX files as black-box detectors: what is read from the file, and one clear line for what does not fit."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

from onnx import TensorProto
from onnx_models import write_model, write_open_model

from robustad.adapters import from_onnx
from robustad.attacks import ImageObjective, Square
from robustad.errors import CheckpointError
from robustad.evaluation import Suite, check_health


def images(count=5, size=8):
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def truth(x):
    maps = (x - 0.5).abs().mean(dim=1)
    return maps.mean(dim=(1, 2)), maps


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("score_shape", ["N", "N1"])
@pytest.mark.parametrize("map_shape", ["N1HW", "NHW1", "NHW", "none"])
@pytest.mark.parametrize("batch", ["N", 1, 2])
def test_every_usual_form_is_read(tmp_path, layout, score_shape, map_shape, batch):
    """Fixed batches are fed in pieces: five images in pieces of two leave one over."""
    path = write_model(
        tmp_path / "model.onnx", layout=layout, score_shape=score_shape, map_shape=map_shape, batch=batch
    )
    detector = from_onnx(path)
    assert detector.image_size == 8 and detector.name == "model" and not detector.differentiable
    scores, maps = detector(images())
    torch.testing.assert_close(scores, truth(images())[0])
    if map_shape == "none":
        assert maps is None and not detector.has_maps
    else:
        torch.testing.assert_close(maps, truth(images())[1])


def test_a_file_that_says_any_number_of_images_and_takes_one_gets_them_one_by_one(tmp_path):
    detector = from_onnx(write_model(tmp_path / "model.onnx", baked=1))
    torch.testing.assert_close(detector(images()).scores, truth(images())[0])
    with pytest.raises(CheckpointError, match=r"fails on images of shape \(2, 3, 8, 8\)"):
        from_onnx(write_model(tmp_path / "other.onnx", baked=3))


def test_outputs_are_found_by_name_where_shapes_do_not_say_which(tmp_path):
    path = write_model(tmp_path / "two.onnx", names=("pred_score", "anomaly_map"), extra=("pred_label",))
    torch.testing.assert_close(from_onnx(path)(images()).scores, truth(images())[0])
    with pytest.raises(CheckpointError, match=r"more than one output .* for the scores; it has first"):
        from_onnx(write_model(tmp_path / "unclear.onnx", names=("first", "anomaly_map"), extra=("second",)))


@pytest.mark.parametrize("batch", ["N", 1])
def test_what_is_one_number_for_all_images_is_no_score(tmp_path, batch):
    path = write_model(tmp_path / "a.onnx", names=("chance", "anomaly_map"), constants=("threshold",), batch=batch)
    torch.testing.assert_close(from_onnx(path)(images()).scores, truth(images())[0])
    with pytest.raises(CheckpointError, match=r"no output of floats.*threshold .*, the same for two images"):
        from_onnx(write_model(tmp_path / "b.onnx", score_shape="none", constants=("threshold",), batch=batch))


def test_tokens_are_no_map_unless_they_are_called_so(tmp_path):
    path = write_model(tmp_path / "a.onnx", names=("pred_score", "last_hidden_state"), map_shape="tokens")
    assert not from_onnx(path).has_maps
    path = write_model(tmp_path / "b.onnx", names=("pred_score", "heatmap"), map_shape="tokens")
    assert from_onnx(path).has_maps


def test_half_precision_and_double_images(tmp_path):
    path = write_model(tmp_path / "half.onnx", elem=TensorProto.FLOAT16)
    scores = from_onnx(path)(images().double()).scores
    assert scores.dtype == torch.float64
    torch.testing.assert_close(scores.float(), truth(images())[0], atol=1e-3, rtol=0)


def test_an_open_size_is_asked_for(tmp_path):
    path = write_open_model(tmp_path / "open.onnx")
    with pytest.raises(ValueError, match=r"open\.onnx leaves the size of its images open; pass `image_size`"):
        from_onnx(path)
    detector = from_onnx(path, image_size=16, name="mean")
    assert detector.image_size == 16 and detector.name == "mean"
    torch.testing.assert_close(detector(images(3, 16)).scores, images(3, 16).mean(dim=(1, 2, 3)))
    with pytest.raises(ValueError, match="`image_size` must be 8 for"):
        from_onnx(write_model(tmp_path / "fixed.onnx"), image_size=16)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"inputs": 2}, "must have one input, the images; it has 2: images, more0"),
        ({"score_shape": "none"}, r"has no output of floats \(N,\) or \(N, 1\) for the scores; it has anomaly_map"),
        ({"elem": TensorProto.UINT8}, r"must take floats in \[0, 1\], input 'images' is tensor\(uint8\)"),
    ],
)
def test_other_models_are_one_clear_line(tmp_path, options, text):
    with pytest.raises(CheckpointError, match=text) as caught:
        from_onnx(write_model(tmp_path / "model.onnx", **options))
    assert "\n" not in str(caught.value)


def test_files_that_are_no_model(tmp_path):
    with pytest.raises(CheckpointError, match="no ONNX file"):
        from_onnx(tmp_path / "missing.onnx")
    (tmp_path / "text.onnx").write_text("no model at all")
    with pytest.raises(CheckpointError, match="is no ONNX model that onnxruntime can load") as caught:
        from_onnx(tmp_path / "text.onnx")
    assert "\n" not in str(caught.value)


def test_scores_that_are_no_numbers(tmp_path):
    detector = from_onnx(write_model(tmp_path / "model.onnx", scale=float("nan")))
    with pytest.raises(ValueError, match="the scores of detector 'model' hold 5 values that are NaN"):
        detector(images())


def test_the_bench_treats_it_as_a_black_box(tmp_path):
    detector, x = from_onnx(write_model(tmp_path / "model.onnx")), images(12)
    labels = torch.arange(12) % 2 == 0
    attacked = Square(queries=60)(ImageObjective(detector, labels), x, epsilon=0.1)
    assert ((detector(attacked).scores < detector(x).scores) == labels).all()
    plans = {plan.name: plan for plan in Suite().plans(detector)}
    assert plans["square"].runs and not plans["pgd"].runs
    assert dict(plans["pgd"].skipped) == {"score": "an ONNX model gives no gradient"}
    other = next(plan for plan in Suite(attacks=("transfer",)).plans(detector, has_other=True) if plan.runs)
    assert other.name == "transfer", "the gradients of another detector will do"
    verdicts = {verdict.name: verdict for verdict in check_health(detector, x, labels, epsilon=0.05)}
    assert verdicts["Repeatable score"].passed is True
    assert verdicts["Gradient is there"].passed is False
    others = [
        verdict
        for name, verdict in verdicts.items()
        if name not in ("Repeatable score", "Company changes nothing", "Gradient is there")
    ]
    assert all(verdict.passed is None and "no gradient: black box only" in verdict.why for verdict in others)
