"""Certified figures: never above what an attack leaves, resumable, and every line means what it says."""

import dataclasses

import numpy as np
import pytest
import torch
from evaluation_doubles import ScoreOnly, TinyDetector, made_dataset

from robustad.attacks import PGD, ScoreObjective
from robustad.certify import SmoothedDetector
from robustad.data import ImageDataset
from robustad.evaluation import (
    ABSTENTIONS,
    BASELINE,
    CERTIFIED,
    SMOOTHED,
    CertifyConfig,
    Store,
    Subject,
    certified_rows,
    evaluate_certified,
    select,
)
from robustad.metrics import auroc

CONFIG = CertifyConfig(sigma=0.3, radii=(0.1, 0.4), samples=200)
SUBJECT = Subject(detector="tiny", recipe="none", data="made")


@pytest.fixture(scope="module")
def marked(tmp_path_factory):
    return made_dataset(tmp_path_factory.mktemp("marked"))


@pytest.fixture(scope="module")
def certified(marked):
    return evaluate_certified(TinyDetector().eval(), marked, CONFIG, show_progress=False)


def figure(rows, **where):
    (row,) = select(rows, **where)
    return row.value


def test_no_attack_leaves_less_than_what_is_certified(certified, marked):
    rows = certified_rows(certified, SUBJECT)
    detector = SmoothedDetector(TinyDetector().eval(), sigma=CONFIG.sigma, samples=200)
    images = torch.stack([item["image"] for item in marked]).float() / 255
    labels = torch.tensor([sample.label for sample in marked.samples])
    objective = ScoreObjective(lambda x: detector(x).scores, labels)
    clean = figure(rows, attack=SMOOTHED, metric="image_AUROC")
    assert clean == pytest.approx(auroc(detector(images).scores.detach().numpy(), labels.numpy()), abs=0.05)
    last = clean
    for radius in CONFIG.radii:
        attacked = detector(PGD(steps=5, norm="l2")(objective, images, epsilon=radius)).scores.detach()
        left = auroc(attacked.numpy(), labels.numpy())
        bound = figure(rows, attack=CERTIFIED, epsilon=radius, metric="image_AUROC")
        assert bound <= left + 1e-9 and bound <= last  # and not empty:
        assert bound > 0 or radius == 0.4
        last = bound


def test_more_is_undecided_the_larger_the_radius(certified):
    rows = certified_rows(certified, SUBJECT)
    small, large = (figure(rows, attack=CERTIFIED, epsilon=r, metric=ABSTENTIONS) for r in CONFIG.radii)
    assert 0 < small <= large <= 1


def test_an_interval_on_either_side_of_the_threshold_is_decided(certified):
    medians = certified.certificate.medians
    points = dataclasses.replace(certified.certificate, low=np.stack([medians] * 2), high=np.stack([medians] * 2))
    rows = certified_rows(dataclasses.replace(certified, certificate=points), SUBJECT)
    assert [row.value for row in select(rows, metric=ABSTENTIONS)] == [0, 0]


def test_the_baseline_beside_it_is_exact(marked):
    config = dataclasses.replace(CONFIG, radii=(0.1, 0.5), samples=1)
    found = evaluate_certified(TinyDetector().eval(), marked, config, show_progress=False)
    rows = select(certified_rows(found, SUBJECT), detector=BASELINE)
    assert [(row.attack, row.norm, row.epsilon) for row in rows] == [("exact", "l2", 0.1), ("exact", "l2", 0.5)]
    images = torch.stack([item["image"] for item in marked]).float() / 255
    labels = np.array([sample.label for sample in marked.samples])
    for row in rows:
        even = row.epsilon / (3 * 16 * 16) ** 0.5  # no pixel of these images is that near to black or white
        worst = -(images.mean(dim=(1, 2, 3)).numpy() + np.where(labels, even, -even))
        assert row.value == pytest.approx(auroc(worst, labels), abs=0.03)
    assert 0 < rows[1].value < 0.5 < rows[0].value


def test_an_interrupted_certificate_goes_on_and_the_noise_of_an_image_is_its_own(certified, marked, tmp_path):
    class Interrupted(TinyDetector):
        calls = 0

        def forward(self, images):
            Interrupted.calls += 1
            if Interrupted.calls > 12:
                raise KeyboardInterrupt
            return super().forward(images)

    store = Store(tmp_path / "pieces", context="same")
    with pytest.raises(KeyboardInterrupt):
        evaluate_certified(Interrupted().eval(), marked, CONFIG, store=store, show_progress=False)
    done = len(list((tmp_path / "pieces").iterdir()))
    assert done == 3  # 200 copies are four passes
    again = evaluate_certified(TinyDetector().eval(), marked, CONFIG, store=store, show_progress=False)
    np.testing.assert_array_equal(again.certificate.low, certified.certificate.low)
    twice = ImageDataset([marked.samples[0], marked.samples[0]], 16)
    found = evaluate_certified(TinyDetector().eval(), twice, CONFIG, show_progress=False).certificate.medians
    assert found[0] != found[1]


def test_bad_input_is_one_clear_line(marked):
    for options, match in (
        ({"sigma": 0}, "`sigma` must be above 0"),
        ({"sigma": 0.1, "radii": (0.0, 0.5)}, "must be above 0"),
        ({"sigma": 0.1, "radii": (0.5, 0.5)}, "twice"),
        ({"sigma": 0.1, "samples": 0}, "`samples`"),
        ({"sigma": 0.1, "confidence": 1.0}, "`confidence`"),
    ):
        with pytest.raises(ValueError, match=match):
            CertifyConfig(**options)
    with pytest.raises(ValueError, match="no test image"):
        evaluate_certified(TinyDetector(), ImageDataset([], 16), CONFIG)
    with pytest.raises(ValueError, match="NaN"):
        broken = ScoreOnly(lambda x: x.mean(dim=(1, 2, 3)) * float("nan"))
        evaluate_certified(broken, marked, CertifyConfig(sigma=0.1, samples=5), show_progress=False)


def test_one_class_only_leaves_the_ranking_open(marked):
    normal = ImageDataset([sample for sample in marked.samples if not sample.label], 16)
    found = evaluate_certified(TinyDetector(), normal, CertifyConfig(sigma=0.1, samples=20), show_progress=False)
    rows = certified_rows(found, SUBJECT)
    assert all(row.value is None and row.reason for row in rows if row.metric == "image_AUROC")
