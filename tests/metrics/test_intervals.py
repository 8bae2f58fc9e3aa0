"""Bootstrap intervals and the matched AUROC."""

import numpy as np
import pytest
import torch

from robustad.metrics import auroc, auroc_interval, auroc_lead, matched_auroc
from robustad.metrics.intervals import _weighted_aurocs


def scores_and_labels(size=120, seed=0, shift=1.0):
    generator = np.random.default_rng(seed)
    labels = generator.random(size) < 0.4
    return np.round(generator.normal(size=size) + shift * labels, 1), labels


def test_value_is_the_plain_auroc_and_lies_in_the_interval():
    scores, labels = scores_and_labels()
    interval = auroc_interval(scores, labels)
    assert interval.value == pytest.approx(auroc(scores, labels))
    assert interval.low < interval.value < interval.high


def test_integer_weights_equal_repeated_samples():
    scores, labels = scores_and_labels(40)
    order = np.argsort(scores)
    scores, labels = scores[order], labels[order]
    weights = np.random.default_rng(0).integers(0, 4, (6, 40))
    expected = [auroc(np.repeat(scores, row), np.repeat(labels, row)) for row in weights]
    np.testing.assert_allclose(_weighted_aurocs(scores, labels, weights), expected)


def test_same_seed_same_interval_and_global_state_untouched():
    scores, labels = scores_and_labels()
    state, torch_state = np.random.get_state()[1].copy(), torch.get_rng_state()
    assert auroc_interval(scores, labels, seed=3) == auroc_interval(scores, labels, seed=3)
    assert auroc_interval(scores, labels, seed=3) != auroc_interval(scores, labels, seed=4)
    assert (np.random.get_state()[1] == state).all()
    assert (torch.get_rng_state() == torch_state).all()


def test_repeated_images_claim_no_more_evidence_when_grouped():
    scores, labels = scores_and_labels(80)
    groups = np.array([f"tile{i}" for i in range(80)])
    once = auroc_interval(scores, labels)
    sixfold = auroc_interval(np.tile(scores, 6), np.tile(labels, 6), np.tile(groups, 6))
    naive = auroc_interval(np.tile(scores, 6), np.tile(labels, 6))
    width = once.high - once.low
    assert sixfold.high - sixfold.low == pytest.approx(width, rel=0.15)
    assert naive.high - naive.low < 0.6 * width


def test_coverage_is_near_the_level():
    # Two normals with a unit shift: the true AUROC is Phi(1/sqrt 2).
    truth, covered = 0.7602499, 0
    for seed in range(100):
        generator = np.random.default_rng(seed)
        labels = np.arange(150) < 60
        interval = auroc_interval(generator.normal(size=150) + labels, labels, num_resamples=200, level=0.8)
        covered += interval.low <= truth <= interval.high
    assert 68 <= covered <= 91  # 80 expected, three standard deviations


def test_wider_level_wider_interval():
    scores, labels = scores_and_labels()
    narrow, wide = auroc_interval(scores, labels, level=0.5), auroc_interval(scores, labels, level=0.99)
    assert wide.low < narrow.low < narrow.high < wide.high


def test_rare_class_is_redrawn_not_invented():
    labels = np.arange(30) % 6 == 1
    interval = auroc_interval(np.arange(30.0), labels, num_resamples=300)
    assert 0 <= interval.low <= interval.value <= interval.high <= 1


def test_interval_errors():
    scores, labels = scores_and_labels(10)
    with pytest.raises(ValueError, match="a class is in 1 `groups`, an interval needs at least 5"):
        auroc_interval(scores, labels, ["one"] * 10)
    with pytest.raises(ValueError, match="a class is in 4 `groups`"):
        auroc_interval(np.arange(24.0), np.arange(24) < 4)
    with pytest.raises(ValueError, match="`groups` must have one entry per score"):
        auroc_interval(scores, labels, ["one"] * 9)
    with pytest.raises(ValueError, match=r"`level` must be in \(0, 1\)"):
        auroc_interval(scores, labels, level=95)
    with pytest.raises(ValueError, match="undefined"):
        auroc_interval(scores, labels & False)
    with pytest.raises(ValueError, match="`num_resamples` must be at least 1"):
        auroc_interval(scores, labels, num_resamples=0)


def test_a_lead_is_known_better_than_either_figure_where_both_err_on_the_same_samples():
    generator = np.random.default_rng(5)
    labels = np.arange(120) % 2 == 0
    scores = generator.normal(size=120) + labels
    worse = scores + generator.normal(scale=0.2, size=120)
    lead = auroc_lead(scores, worse, labels)
    assert lead.value == pytest.approx(auroc(scores, labels) - auroc(worse, labels))
    assert lead.low < lead.value < lead.high
    first, second = auroc_interval(scores, labels), auroc_interval(worse, labels)
    assert lead.high - lead.low < 0.5 * (first.high - first.low)
    assert auroc_lead(scores, scores, labels)[1:] == (0.0, 0.0)
    assert lead.high < first.high - second.low
    with pytest.raises(ValueError, match="a class is in 2 `groups`"):
        auroc_lead(scores, worse, labels, np.arange(120) // 60)


def test_matched_auroc_equals_all_close_pairs():
    generator = np.random.default_rng(5)
    scores, labels = generator.integers(0, 9, 70), generator.random(70) < 0.4
    covariate = generator.integers(0, 30, 70)
    right, pairs = 0.0, 0
    for i in np.flatnonzero(labels):
        for j in np.flatnonzero(~labels):
            if abs(covariate[i] - covariate[j]) <= 2:
                pairs += 1
                right += (scores[i] > scores[j]) + 0.5 * (scores[i] == scores[j])
    result = matched_auroc(scores, labels, covariate, 2)
    assert result.num_pairs == pairs
    assert result.value == pytest.approx(right / pairs)


def test_matching_takes_out_the_covariate():
    generator = np.random.default_rng(6)
    labels = generator.random(2000) < 0.5
    brightness = 0.5 - 0.1 * labels + 0.1 * generator.normal(size=2000)
    detector = -brightness + 0.01 * generator.normal(size=2000)
    assert auroc(detector, labels) > 0.7
    assert matched_auroc(detector, labels, brightness, 0.002).value == pytest.approx(0.5, abs=0.03)


def test_unlimited_tolerance_is_the_plain_auroc():
    scores, labels = scores_and_labels()
    everything = matched_auroc(torch.from_numpy(scores), torch.from_numpy(labels), np.arange(120.0), 1e9)
    assert everything.value == pytest.approx(auroc(scores, labels))
    assert everything.num_pairs == labels.sum() * (~labels).sum()


def test_matched_errors():
    with pytest.raises(ValueError, match=r"undefined: no anomalous/normal pair has a `covariate` within 0\.1"):
        matched_auroc([1.0, 2.0], [True, False], [0.0, 5.0], 0.1)
    with pytest.raises(ValueError, match="`tolerance` must be at least 0"):
        matched_auroc([1.0, 2.0], [True, False], [0.0, 5.0], -1)
    with pytest.raises(ValueError, match="`covariate` must be finite"):
        matched_auroc([1.0, 2.0], [True, False], [0.0, float("nan")], 1)
    with pytest.raises(ValueError, match="one entry per score"):
        matched_auroc([1.0, 2.0], [True, False], [0.0], 1)
