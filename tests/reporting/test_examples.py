"""The choice of examples: by score, never twice, never an empty group."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustad.reporting import pick_examples


def test_best_median_and_worst_of_each_class():
    scores = np.array([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13], dtype=float)
    labels = scores >= 7
    assert pick_examples(scores, labels, per_group=1) == {
        "anomalous, worst": [7], "anomalous, median": [10], "anomalous, best": [13],
        "normal, worst": [6], "normal, median": [3], "normal, best": [0],
    }  # fmt: skip
    assert pick_examples(scores, labels, per_group=2)["anomalous, worst"] == [7, 8]


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=25), st.integers(1, 4))
def test_no_image_twice_and_order_by_score(samples, per_group):
    scores = np.array([score for score, _ in samples], dtype=float)
    labels = np.array([label for _, label in samples], dtype=bool)
    groups = pick_examples(scores, labels, per_group=per_group)
    chosen = [index for group in groups.values() for index in group]
    assert len(chosen) == len(set(chosen))
    assert all(1 <= len(group) <= per_group for group in groups.values())
    assert all(labels[index] == name.startswith("anomalous") for name, group in groups.items() for index in group)
    for label, name, sign in ((True, "anomalous", 1), (False, "normal", -1)):
        ranked = [scores[i] for kind in ("worst", "median", "best") for i in groups.get(f"{name}, {kind}", [])]
        assert ranked == sorted(ranked, key=lambda score: sign * score)
        if (labels == label).any():
            extreme = (scores[labels == label] * sign).min() * sign
            assert ranked[0] == extreme


def test_errors():
    with pytest.raises(ValueError, match="must both be"):
        pick_examples([1.0, 2.0], [True])
    with pytest.raises(ValueError, match="`per_group` must be at least 1"):
        pick_examples([1.0], [True], per_group=0)
