"""Corrupted images: scores are the detector's, rates are counted at one threshold, pieces are kept."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from evaluation_doubles import ScoreOnly, TinyDetector, made_dataset

from robustad.corruptions import corrupt
from robustad.data import ImageDataset
from robustad.evaluation import (
    BASELINE,
    FALSE_ALARMS,
    MISSES,
    Store,
    Subject,
    corruption_rows,
    evaluate_corruptions,
    select,
)
from robustad.evaluation.corrupted import Corrupted
from robustad.metrics import auroc

SUBJECT = Subject(detector="tiny", recipe="default", data="made", split="dev", seed=3)
NAMES = ("vignetting", "shot_noise")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return made_dataset(tmp_path_factory.mktemp("marked"))


def labels_of(dataset):
    return np.array([sample.label for sample in dataset.samples])


def test_clean_first_then_every_corruption_at_every_severity(dataset):
    found = evaluate_corruptions(TinyDetector(), dataset, NAMES, severities=(5, 1), batch_size=5, show_progress=False)
    assert [(c.name, c.severity) for c in found] == [("none", 0), *((n, s) for n in NAMES for s in (1, 5))]
    images = torch.stack([item["image"] for item in dataset]).float() / 255
    detector = TinyDetector().eval()
    for cell in found:
        x = images if cell.name == "none" else corrupt(images, cell.name, cell.severity)
        np.testing.assert_allclose(cell.scores, detector(x).scores.detach(), atol=1e-6)
        np.testing.assert_allclose(cell.brightness, x.mean(dim=(1, 2, 3)), atol=1e-6)


def test_figures_are_counted_at_a_threshold_that_is_fixed_on_clean_images(dataset):
    bright = ScoreOnly(lambda x: x.mean(dim=(1, 2, 3)))
    labels = labels_of(dataset)
    found = evaluate_corruptions(bright, dataset, ("brightness-drift",), severities=(5,), show_progress=False)
    rows = corruption_rows(found, labels, SUBJECT)
    scored = {"tiny": [cell.scores for cell in found], "brightness": [-cell.brightness for cell in found]}
    for detector, several in scored.items():
        threshold = float(np.quantile(several[0][~labels], 0.95))
        for cell, scores in zip(found, several, strict=True):
            at = {"detector": detector, "attack": cell.name, "epsilon": float(cell.severity)}
            (value,) = select(rows, metric="image_AUROC", **at)
            assert value.value == auroc(scores, labels)
            (alarms,) = select(rows, metric=FALSE_ALARMS, **at)
            assert alarms.value == (scores[~labels] > threshold).mean()
            (misses,) = select(rows, metric=MISSES, **at)
            assert misses.value == (scores[labels] <= threshold).mean()
    drifted = select(rows, detector="tiny", metric=FALSE_ALARMS, attack="brightness-drift")[0].value
    assert drifted > 0.3, "half of the images become brighter: that is what stops lines"
    (mean,) = select(rows, detector="tiny", attack="corruptions", metric=FALSE_ALARMS)
    assert mean.value == drifted and mean.epsilon == 0, "of one corruption at one severity"
    own = corruption_rows(found, labels, SUBJECT, threshold=2.0)
    assert {row.value for row in select(own, detector="tiny", metric=MISSES)} == {1.0}
    assert len(select(rows, detector="brightness")) == len(select(rows, detector="tiny"))


def test_one_class_only_is_undefined_with_a_reason(dataset):
    normal = ImageDataset([sample for sample in dataset.samples if not sample.label], 16)
    found = evaluate_corruptions(TinyDetector(), normal, NAMES, show_progress=False)
    rows = corruption_rows(found, labels_of(normal), SUBJECT)
    assert all(row.value is None and row.reason for row in select(rows, metric=["image_AUROC", MISSES]))
    assert all(row.value is not None for row in select(rows, metric=FALSE_ALARMS))


def test_finished_pieces_are_not_done_again(dataset):
    store = Store()
    first = evaluate_corruptions(TinyDetector(), dataset, NAMES, store=store, show_progress=False)

    def never(x):
        raise AssertionError("done already")

    again = evaluate_corruptions(ScoreOnly(never), dataset, NAMES, store=store, show_progress=False)
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.scores, other.scores)


def test_wrong_names_and_severities(dataset):
    with pytest.raises(ValueError, match="`corruptions` must be one of"):
        evaluate_corruptions(TinyDetector(), dataset, ("rain",))
    for severities in ((), (0,), (1, 9)):
        with pytest.raises(ValueError, match="`severities` must be whole numbers from 1 to 5"):
            evaluate_corruptions(TinyDetector(), dataset, NAMES, severities=severities)


def test_a_corrupted_image_without_a_score_is_an_error_and_no_image_that_was_right(dataset):
    def fragile(images):
        scores = images.mean(dim=(1, 2, 3))
        return torch.where(images.std(dim=(1, 2, 3)) > 0.2, torch.nan, scores)

    with pytest.raises(ValueError, match="NaN as a score of a corrupted image"):
        evaluate_corruptions(ScoreOnly(fragile), dataset, ["gaussian_noise"], severities=(5,), show_progress=False)


def test_a_mean_is_that_of_all_figures_or_says_which_one_is_undefined(dataset):
    found = list(evaluate_corruptions(TinyDetector(), dataset, NAMES, severities=(1, 5), show_progress=False))
    rows = corruption_rows(found, labels_of(dataset), SUBJECT)
    found[-1] = dataclasses.replace(found[-1], scores=np.full_like(found[-1].scores, np.nan))
    without = corruption_rows(found, labels_of(dataset), SUBJECT)
    for metric in ("image_AUROC", FALSE_ALARMS, MISSES):
        where = {"detector": SUBJECT.detector, "metric": metric}
        (mean,) = select(rows, attack="corruptions", **where)
        assert mean.value == pytest.approx(np.mean([row.value for row in select(rows, attack=NAMES, **where)])), metric
        (mean,) = select(without, attack="corruptions", **where)
        assert mean.value is None and mean.reason, metric


def test_a_threshold_of_its_own_is_that_of_brightness_too():
    scores = np.linspace(0, 1, 20, dtype=np.float32)
    clean = Corrupted(name="none", severity=0, scores=scores, brightness=-scores)
    rows = corruption_rows([clean], np.arange(20) >= 10, dataclasses.replace(SUBJECT, detector=BASELINE), threshold=2.0)
    assert {row.value for row in rows if row.metric == FALSE_ALARMS} == {0.0}
