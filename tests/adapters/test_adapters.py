"""Foreign functions as detectors, checked at the door; ours as two-logit classifiers."""

from __future__ import annotations

import contextlib
import socket
import threading

import numpy as np
import pytest
import torch
from torch import nn

from robustad.adapters import as_classifier, from_callable
from robustad.adapters._offline import no_network
from robustad.adapters.anomalib import _check_plain
from robustad.attacks import PGD, ImageObjective, Square
from robustad.errors import CheckpointError
from robustad.evaluation import Suite, check_health
from robustad.types import Detector, Prediction


def images(count=4, size=8):
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def bright(x):
    return x.mean(dim=(1, 2, 3))


def test_a_function_is_a_detector_with_gradients():
    detector = from_callable(bright, image_size=8, name="bright")
    assert isinstance(detector, Detector) and detector.image_size == 8 and detector.name == "bright"
    prediction = detector(images())
    torch.testing.assert_close(prediction.scores, bright(images()))
    assert prediction.anomaly_maps is None
    labels = torch.tensor([True, False, True, False])
    attacked = PGD()(ImageObjective(detector, labels), images(), epsilon=0.1)
    assert ((detector(attacked).scores < detector(images()).scores) == labels).all()


def test_numpy_answers_and_columns_will_do():
    detector = from_callable(lambda x: x.numpy().mean(axis=(1, 2, 3))[:, None], image_size=8, differentiable=False)
    torch.testing.assert_close(detector(images()).scores, bright(images()))
    labels = torch.zeros(4, dtype=torch.bool)
    attacked = Square(queries=30)(ImageObjective(detector, labels), images(), epsilon=0.1)
    assert (bright(attacked) > bright(images())).all(), "black box: no gradient is asked for"


def test_a_black_box_is_not_trusted_with_a_white_box_figure():
    detector = from_callable(lambda x: x.numpy().mean(axis=(1, 2, 3)), image_size=8, differentiable=False)
    found = {v.name: v for v in check_health(detector, images(12), torch.arange(12) % 2 == 0, epsilon=0.05)}
    assert found["Gradient is there"].passed is False
    assert found["Repeatable score"].passed is True and found["Unbounded attack wins"].passed is None
    plans = {plan.name: plan for plan in Suite(attacks=("pgd", "ensemble")).plans(detector)}
    assert [run.goal for run in plans["square"].runs] == ["score"] and plans["pgd"].runs == ()
    assert dict(plans["pgd"].skipped) == {"score": "the detector gives no gradient"}


def test_maps_are_taken_where_they_are_promised():
    detector = from_callable(lambda x: (bright(x), x.mean(1, keepdim=True)), image_size=8, has_maps=True)
    assert detector(images()).anomaly_maps.shape == (4, 8, 8)
    silent = from_callable(bright, image_size=8, has_maps=True, name="silent")
    with pytest.raises(ValueError, match="'silent' gave no anomaly maps"):
        silent(images())


def test_a_module_keeps_its_mode_and_device():
    module = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(192, 1))
    detector = from_callable(module, image_size=8).eval()
    assert not module.training and torch.equal(detector(images()).scores, detector(images()).scores)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (lambda x: bright(x)[:2], r"the scores of detector 'bad' must have the shape \(4,\) for 4 images, got \(2,\)"),
        (lambda x: x, r"must have the shape \(4,\) for 4 images, got \(4, 3, 8, 8\)"),
        (lambda x: bright(x) * torch.nan, "hold 4 values that are NaN"),
        (lambda x: (bright(x), x, x, x), "got a tuple of 4: pick them out"),
        (lambda x: [bright(x)], "got a list of 1"),
        (lambda x: {"score": bright(x)}, "got a dict of 1"),
        (lambda x: 0.5, "got a float: pick"),
        (lambda x: bright(x).double() * 1e300, "hold 4 values that are NaN, infinite or beyond float32"),
    ],
)
def test_wrong_answers_are_one_clear_line(answer, text):
    with pytest.raises(ValueError, match=text):
        from_callable(answer, image_size=8, name="bad")(images())


def test_two_logits_decide_as_the_threshold_does():
    class Bright(nn.Module):
        def forward(self, x):
            return Prediction(bright(x), None)

    threshold = bright(images()).median().item()
    logits = as_classifier(Bright(), threshold, scale=3.0)(images())
    assert logits.shape == (4, 2)
    assert torch.equal(logits.argmax(1) == 1, bright(images()) > threshold)
    torch.testing.assert_close(logits[:, 1] - logits[:, 0], 6 * (bright(images()) - threshold))
    with pytest.raises(ValueError, match="`scale` must be above 0"):
        as_classifier(Bright(), threshold, scale=0)


def test_foreign_scores_of_whole_numbers_become_floats():
    detector = from_callable(lambda x: np.arange(len(x)), image_size=8, differentiable=False)
    assert detector(images()).scores.dtype == torch.float32


def test_no_network_refuses_every_thread_and_says_what_was_wanted():
    server = socket.create_server(("127.0.0.1", 0))
    address, reached = server.getsockname(), []

    def elsewhere():
        with contextlib.suppress(OSError), socket.socket() as plain:
            plain.connect(address)
            reached.append(True)

    with no_network() as wanted:
        with pytest.raises(OSError, match="nothing is fetched here"):
            socket.create_connection(("example.org", 80), timeout=5)
        for name in ("connect", "connect_ex"):
            with socket.socket() as plain, pytest.raises(OSError, match="nothing is fetched here"):
                getattr(plain, name)(address)
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
    assert wanted == ["example.org", "127.0.0.1", "127.0.0.1", "127.0.0.1"] and reached == []
    elsewhere()
    server.close()
    assert reached == [True]


@pytest.mark.parametrize("name", ["_instantiator", "_class_path"])
def test_a_checkpoint_that_names_code_to_run_is_refused(tmp_path, name):
    stored = {"hyper_parameters": {"layers": 2}, "state_dict": {}, "pytorch-lightning_version": "2.6.1"}
    _check_plain(tmp_path / "a.ckpt", stored)
    stored["hyper_parameters"][name] = "os.system"
    with pytest.raises(CheckpointError, match=f"names code that is to be run .* .{name}., and is refused"):
        _check_plain(tmp_path / "a.ckpt", stored)
