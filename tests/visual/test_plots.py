"""Plots: valid files with the right words in them, the same bytes each time, no global state."""

import xml.etree.ElementTree as ET
from itertools import pairwise

import matplotlib
import numpy as np
import pytest

from robustad.visual import (
    Course,
    Curve,
    roc_curve_plot,
    score_histograms,
    security_curve,
    time_curves,
    training_curves,
)
from robustad.visual.plots import _spread

GENERATOR = np.random.default_rng(0)
NORMAL, ANOMALOUS = GENERATOR.normal(0, 1, 50), GENERATOR.normal(2, 1, 30)
CURVES = {
    "ensemble": Curve([0, 2 / 255, 8 / 255], [0.9, 0.8, 0.5], [0.8, 0.7, 0.4], [0.95, 0.9, 0.6]),
    "Square <2,000>": Curve([0, 8 / 255], [0.9, 0.8]),
}
COURSE = Course({"published": ([2, 20, 60], [0.1, 0.2, 0.3]), "ours": ([1, 4], [0.5, 0.77])}, 0.765)
LOG = [{"step": i, "loss": 1 / (i + 1), "dev_AUROC": 0.5 + i / 50, "lr": 1e-3, "note": "x"} for i in range(20)]
PLOTS = {
    "security": lambda **more: security_curve(CURVES, baseline=0.7, **more),
    "histograms": lambda **more: score_histograms(
        NORMAL, ANOMALOUS, 1.0, attacked_normal=NORMAL + 1, attacked_anomalous=ANOMALOUS - 1, **more
    ),
    "roc": lambda **more: roc_curve_plot({"clean": ([0, 0.1, 1], [0, 0.8, 1])}, **more),
    "time": lambda **more: time_curves({"elpv": COURSE, "mtd <2>": COURSE}, **more),
    "training": lambda **more: training_curves(LOG, **more),
}


def words(svg):
    return [text for element in ET.fromstring(svg).iter() if (text := (element.text or "").strip())]


@pytest.mark.parametrize("name", PLOTS)
def test_svg_is_valid_adaptive_and_reproducible(name):
    svg = PLOTS[name]()
    assert ET.fromstring(svg).tag.endswith("svg")
    assert b"prefers-color-scheme:dark" in svg
    assert b"var(--ink" in svg
    assert svg == PLOTS[name]()


@pytest.mark.parametrize("name", ["security", "histograms"])
def test_png(name):
    assert PLOTS[name](image_format="png").startswith(b"\x89PNG")


def test_no_global_state_is_changed():
    before = dict(matplotlib.rcParams)
    for plot in PLOTS.values():
        plot()
    assert dict(matplotlib.rcParams) == before
    pyplot = matplotlib.sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or not pyplot.get_fignums()


def test_time_curves_have_a_panel_each_with_the_mark():
    found = words(time_curves({"elpv": COURSE, "mtd <2>": COURSE}))
    for word in ["elpv", "mtd <2>", "published", "ours", "mark 0.77", "minutes of training", "10"]:
        assert word in found, word
    for wrong in ({}, {"elpv": Course({"ours": ([], [])}, 0.5)}):
        with pytest.raises(ValueError, match="at least one"):
            time_curves(wrong)


def test_security_curve_names_each_line_the_baseline_and_the_epsilons():
    found = words(security_curve(CURVES, baseline=0.7))
    for word in ["ensemble 0.50", "Square <2,000> 0.80", "mean brightness 0.70", "image AUROC", "0", "2", "8"]:
        assert word in found


def test_security_curve_draws_the_values():
    low, high = (
        security_curve({"a": Curve([0, 1 / 255], [0.9, 0.2])}),
        security_curve({"a": Curve([0, 1 / 255], [0.9, 0.8])}),
    )
    assert low != high


@pytest.mark.parametrize("curve", [Curve([0, 0.1], [0.5]), Curve([], []), Curve([0], [0.5], [0.4, 0.3], [0.6])])
def test_security_curve_refuses_uneven_curves(curve):
    with pytest.raises(ValueError, match="curve 'a' must have as many values"):
        security_curve({"a": curve})


def test_single_clean_point_and_constant_scores_can_be_drawn():
    assert "a 0.90" in words(security_curve({"a": Curve([0.0], [0.9])}))
    assert score_histograms([0.5, 0.5], [0.5])
    assert score_histograms([0.0], [])


def test_histograms_have_a_second_panel_only_with_attacked_scores():
    assert "under attack" in words(PLOTS["histograms"]())
    alone = words(score_histograms(NORMAL, ANOMALOUS))
    assert "under attack" not in alone
    assert "threshold" not in alone
    assert "normal (50)" in alone
    assert "anomalous (30)" in alone


def test_training_curves_group_by_kind_and_skip_text():
    found = words(training_curves(LOG))
    assert {"loss", "AUROC", "lr", "dev_AUROC"} <= set(found)
    assert "note" not in found


def test_labels_are_spread_and_stay_below_the_top():
    heights = _spread([0.1, 0.5, 0.51, 0.52, 0.99, 0.995], gap=0.06, top=1.0)
    assert all(b - a >= 0.06 - 1e-12 for a, b in pairwise(heights))
    assert heights[0] == 0.1
    assert heights[2] == pytest.approx(0.51)  # the middle of a cluster stays
    assert heights[-1] <= 1.0
    assert _spread([0.2], gap=0.06, top=1.0) == [0.2]


def test_errors():
    with pytest.raises(ValueError, match="at least one curve"):
        security_curve({})
    with pytest.raises(ValueError, match="at least one curve"):
        roc_curve_plot({})
    with pytest.raises(ValueError, match="hold no scores"):
        score_histograms([], [])
    with pytest.raises(ValueError, match="`anomalous` must be finite"):
        score_histograms([0.0], [float("nan")])
    with pytest.raises(ValueError, match="`rows` must hold numbers beside 'step'"):
        training_curves([{"step": 1}])
    with pytest.raises(ValueError, match="`image_format` must be svg or png"):
        roc_curve_plot({"a": ([0, 1], [0, 1])}, image_format="gif")
