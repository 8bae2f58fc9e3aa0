import numpy as np
import pytest

from robustad.calibration import conformal_calibration, false_alarm_bound, images_needed


@pytest.mark.parametrize("count, rate", [(19, 0.05), (20, 0.05), (39, 0.05), (99, 0.01), (99, 0.07), (9, 0.25)])
def test_of_so_many_images_and_one_more_no_larger_share_lies_above_the_threshold_of_the_others(count, rate):
    scores = np.random.default_rng(0).normal(size=count + 1)
    above = [score > conformal_calibration(np.delete(scores, i), rate).threshold for i, score in enumerate(scores)]
    assert rate - 1 / (count + 1) < np.mean(above) <= rate + 1e-12, "and it could not be lower"


def test_what_was_found_says_what_it_was_made_of():
    found = conformal_calibration(np.arange(199)[::-1].reshape(1, 199), 0.01)
    assert (found.threshold, found.max_false_alarm_rate, found.num_images) == (197.0, 0.01, 199)
    assert found.method == "conformal"


def test_ties_raise_no_false_alarm():
    assert conformal_calibration([0.0] * 10 + [1.0] * 10, 0.2).threshold == 1.0


@pytest.mark.parametrize("rate, needed", [(0.01, 99), (0.05, 19), (0.1, 9), (0.3, 3), (0.5, 1), (1 / 3, 2)])
def test_too_few_images_are_told_how_many_it_takes(rate, needed):
    assert images_needed(rate) == needed
    conformal_calibration(range(needed), rate)
    with pytest.raises(ValueError, match=f"needs at least {needed} normal images.* got {needed - 1}"):
        conformal_calibration(range(needed - 1), rate)


@pytest.mark.parametrize("count, rate", [(19, 0.05), (60, 0.1)])
def test_bad_luck_is_bounded(count, rate):
    draws = np.random.default_rng(1).uniform(size=(20000, count))
    let_through = 1 - np.array([conformal_calibration(scores, rate).threshold for scores in draws])
    assert np.mean(let_through <= false_alarm_bound(count, rate)) == pytest.approx(0.95, abs=0.01)
    assert np.mean(let_through) == pytest.approx(np.floor((count + 1) * rate) / (count + 1), abs=0.002)
    assert false_alarm_bound(count, rate, confidence=0.5) < false_alarm_bound(count, rate)


@pytest.mark.parametrize("rate", [0, 1, -0.1, 1.5, float("nan")])
def test_a_rate_is_a_share(rate):
    for call in (images_needed, lambda r: conformal_calibration(range(99), r), lambda r: false_alarm_bound(99, r)):
        with pytest.raises(ValueError, match="between 0 and 1"):
            call(rate)


def test_other_wrong_input_is_named():
    with pytest.raises(ValueError, match="finite"):
        conformal_calibration([0.0, float("nan")], 0.5)
    with pytest.raises(ValueError, match="too few"):
        false_alarm_bound(50, 0.01)
    with pytest.raises(ValueError, match="`confidence`"):
        false_alarm_bound(99, 0.01, confidence=1.0)
