"""AUROC, AUPR and F1Max against scikit-learn, ties included."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, f1_score, precision_recall_curve, roc_auc_score
from sklearn.metrics import roc_curve as sklearn_roc_curve

from robustad.metrics import IMAGE_METRICS, PIXEL_METRICS, aupr, auroc, f1max, pixel_aupr, pixel_auroc, roc_curve


@st.composite
def samples(draw, dtype=np.float64):
    """Scores with many ties, and labels with both classes."""
    size = draw(st.integers(2, 60))
    scores = draw(st.lists(st.integers(-4, 4), min_size=size, max_size=size))
    labels = draw(st.lists(st.booleans(), min_size=size - 2, max_size=size - 2))
    return np.array(scores, dtype=dtype) * 0.1, np.array([True, False, *labels])


def brute_f1(scores, labels):
    precision, recall, _ = precision_recall_curve(labels, scores)
    return max(2 * p * r / (p + r) if p + r else 0.0 for p, r in zip(precision, recall, strict=True))


@settings(deadline=None, max_examples=80)
@given(samples())
def test_equal_to_scikit_learn_with_ties(sample):
    scores, labels = sample
    assert auroc(scores, labels) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert aupr(scores, labels) == pytest.approx(average_precision_score(labels, scores), abs=1e-12)
    assert f1max(scores, labels).value == pytest.approx(brute_f1(scores, labels), abs=1e-12)


@settings(deadline=None, max_examples=80)
@given(samples(np.float32))
def test_f1max_threshold_reaches_the_value_it_promises(sample):
    scores, labels = sample
    value, threshold = f1max(scores, labels)
    assert f1_score(labels, scores > np.float32(threshold)) == pytest.approx(value)
    assert f1_score(labels, (torch.from_numpy(scores) > threshold).numpy()) == pytest.approx(value)


@settings(deadline=None, max_examples=40)
@given(samples())
def test_auroc_is_antisymmetric_and_blind_to_monotone_transforms(sample):
    scores, labels = sample
    assert auroc(-scores, labels) == pytest.approx(1 - auroc(scores, labels), abs=1e-12)
    assert auroc(np.exp(scores), labels) == auroc(scores, labels)
    assert auroc(scores, ~labels) == pytest.approx(1 - auroc(scores, labels), abs=1e-12)


@pytest.mark.parametrize("direction", [1, -1])
def test_f1max_threshold_between_neighbouring_floats(direction):
    high = np.float32(direction)
    scores = np.array([np.nextafter(high, np.float32(-9)), high], dtype=np.float32)
    value, threshold = f1max(scores, [False, True])
    assert value == 1
    assert list(scores > np.float32(threshold)) == [False, True]


def test_f1max_may_call_everything_anomalous():
    value, threshold = f1max([1.0, 1.0, 1.0], [True, True, False])
    assert value == pytest.approx(0.8)
    assert threshold < 1


def test_f1max_prefers_the_highest_of_equal_thresholds():
    # Flagging {4} gives F1 = 2/3 and so does flagging everything: 2*2/(4+2).
    value, threshold = f1max([4.0, 3.0, 2.0, 1.0], [True, False, False, True])
    assert value == pytest.approx(2 / 3)
    assert threshold == 3.5


def test_roc_curve_equals_scikit_learn():
    generator = np.random.default_rng(0)
    scores, labels = generator.integers(0, 9, 200) / 8, generator.random(200) < 0.3
    curve = roc_curve(scores, labels)
    fpr, tpr, thresholds = sklearn_roc_curve(labels, scores, drop_intermediate=False)
    np.testing.assert_allclose(curve.false_positive_rate, fpr)
    np.testing.assert_allclose(curve.true_positive_rate, tpr)
    np.testing.assert_allclose(curve.thresholds, thresholds)
    assert np.trapezoid(curve.true_positive_rate, curve.false_positive_rate) == pytest.approx(auroc(scores, labels))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_tensors_of_any_precision_and_with_gradient(dtype):
    scores = torch.tensor([0.5, 0.25, 0.75, 1.0], dtype=dtype, requires_grad=True)
    labels = torch.tensor([False, True, True, True])
    assert auroc(scores, labels) == pytest.approx(2 / 3)


def test_pixel_metrics_pool_all_images():
    generator = np.random.default_rng(1)
    maps, masks = generator.integers(0, 20, (4, 9, 7)) / 3, generator.random((4, 9, 7)) < 0.2
    masks[0] = False
    assert pixel_auroc(maps, masks) == pytest.approx(roc_auc_score(masks.ravel(), maps.ravel()))
    assert pixel_aupr(maps, masks) == pytest.approx(average_precision_score(masks.ravel(), maps.ravel()))
    assert pixel_auroc(torch.from_numpy(maps), torch.from_numpy(masks)) == pixel_auroc(maps, masks)


def test_huge_values_do_not_overflow():
    assert auroc([-1.7e308, 1.7e308], [False, True]) == 1
    assert f1max([-1.7e308, 1.7e308], [False, True]) == (1.0, 0.0)


@pytest.mark.parametrize("metric", [*IMAGE_METRICS.values(), roc_curve, f1max])
def test_undefined_and_wrong_input_is_an_error(metric):
    with pytest.raises(ValueError, match="undefined: none of the 2 `labels` is anomalous"):
        metric([0.1, 0.2], [False, False])
    with pytest.raises(ValueError, match="undefined: none of the 2 `labels` is normal"):
        metric([0.1, 0.2], [1, 1])
    with pytest.raises(ValueError, match="1 NaN or infinite values out of 2"):
        metric([0.1, float("nan")], [True, False])
    with pytest.raises(ValueError, match="NaN or infinite"):
        metric([0.1, float("-inf")], [True, False])
    with pytest.raises(ValueError, match="same shape"):
        metric([0.1, 0.2, 0.3], [True, False])
    with pytest.raises(ValueError, match=r"booleans .*got .*255"):
        metric([0.1, 0.2], [0, 255])
    with pytest.raises(ValueError, match="undefined"):
        metric([], np.zeros(0, dtype=bool))


@pytest.mark.parametrize("metric", PIXEL_METRICS.values())
def test_undefined_and_wrong_maps_are_an_error(metric):
    maps, masks = np.zeros((2, 4, 4)), np.zeros((2, 4, 4), dtype=bool)
    with pytest.raises(ValueError, match="undefined"):
        metric(maps, masks)
    with pytest.raises(ValueError, match="undefined"):
        metric(maps, ~masks)
    with pytest.raises(ValueError, match="NaN or infinite"):
        metric(maps * np.nan, masks)
    with pytest.raises(ValueError, match=r"\(N, H, W\)"):
        metric(maps[0], masks[0])
    with pytest.raises(ValueError, match=r"\(N, H, W\)"):
        metric(maps[:, :2], masks)
