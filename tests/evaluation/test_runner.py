import dataclasses
import time

import numpy as np
import pytest
import torch
from evaluation_doubles import ScoreOnly, TinyDetector, made_dataset

from robustad.attacks import PGD, ScoreObjective
from robustad.data import ImageDataset
from robustad.evaluation import (
    BASELINE,
    MATCHED,
    Store,
    Subject,
    Suite,
    evaluate,
    evaluation_details,
    evaluation_rows,
    kind_rows,
    lead_interval,
    select,
)
from robustad.evaluation import SUITE as SUITES
from robustad.evaluation.ensemble import goals
from robustad.metrics import auroc, auroc_interval, auroc_lead, matched_auroc, pixel_auroc

SUITE = Suite(steps=2, strong_steps=2)
RADII = [4 / 255, 8 / 255]
EPSILON = 4 / 255
SUBJECT = Subject(detector="tiny", recipe="default", data="made", split="dev", seed=3)


def keep(scores, labels):
    return [0, 1, 9]


def run(dataset, detector=None, suite=SUITE, **options):
    detector = detector or TinyDetector()
    return evaluate(detector, dataset, suite, epsilons=RADII, show_progress=False, **options)


@pytest.fixture(scope="module")
def marked(tmp_path_factory):
    return made_dataset(tmp_path_factory.mktemp("marked"))


@pytest.fixture(scope="module")
def unmarked(tmp_path_factory):
    return made_dataset(tmp_path_factory.mktemp("unmarked"), masks=False)


@pytest.fixture(scope="module")
def evaluation(marked):
    return run(marked, keep=keep)


def test_cells_are_clean_first_then_every_attack_at_every_radius(evaluation):
    names = ["published-pgd", "pgd", "adaptive-pgd", "ensemble", "map-pgd"]
    expected = [("none", 0.0)] + [(name, radius) for radius in RADII for name in names]
    assert [(cell.attack, cell.epsilon) for cell in evaluation.cells] == expected
    assert evaluation.cell("pgd", 4 / 255).steps == 2 and evaluation.cell("ensemble", 4 / 255).steps is None


def test_scores_are_the_detectors(evaluation, marked):
    detector = TinyDetector().eval()
    images = torch.stack([item["image"] for item in marked]).float() / 255
    clean = detector(images).scores.detach()
    np.testing.assert_allclose(evaluation.clean.scores, clean, atol=1e-6)
    objective = ScoreObjective(lambda x: detector(x).scores, torch.tensor(evaluation.labels))
    moved = PGD(steps=2, keep="last")(objective, images, epsilon=8 / 255)
    np.testing.assert_allclose(evaluation.cell("pgd", 8 / 255).scores, detector(moved).scores.detach(), atol=1e-6)


def test_views_show_the_attacked_image_and_its_map(evaluation, marked):
    cell = evaluation.cell("ensemble", 8 / 255)
    assert sorted(cell.views) == sorted(evaluation.masks) == [0, 1, 9]
    clean = evaluation.clean.views[9].image
    np.testing.assert_array_equal(clean, marked[9]["image"].permute(1, 2, 0))
    change = np.abs(cell.views[9].image.astype(int) - clean)
    assert 0 < change.max() <= 8
    assert cell.views[9].anomaly_map.shape == (16, 16)
    assert not np.array_equal(cell.views[9].anomaly_map, evaluation.clean.views[9].anomaly_map)
    assert not evaluation.masks[0].any() and evaluation.masks[9].any()


@pytest.mark.parametrize("batch_size", [1, 5])
def test_batch_size_changes_nothing(evaluation, marked, batch_size):
    other = run(marked, keep=keep, batch_size=batch_size)
    for one, two in zip(evaluation.cells, other.cells, strict=True):
        np.testing.assert_allclose(one.scores, two.scores, atol=1e-5)
        assert one.pixel["AUPRO"][0] == pytest.approx(two.pixel["AUPRO"][0], abs=1e-3)  # rounding orders equal values


def test_the_seed_decides_random_starts(evaluation, marked):
    again, other = run(marked, seed=0), run(marked, seed=1)
    radius = 8 / 255
    np.testing.assert_array_equal(again.cell("ensemble", radius).scores, evaluation.cell("ensemble", radius).scores)
    assert not np.array_equal(other.cell("map-pgd", radius).scores, evaluation.cell("map-pgd", radius).scores)
    np.testing.assert_array_equal(other.cell("pgd", radius).scores, evaluation.cell("pgd", radius).scores)


def test_pixel_metrics_leave_out_images_without_ground_truth(marked, tmp_path):
    samples = [sample._replace(mask_path=None) if i == 1 else sample for i, sample in enumerate(marked.samples)]
    evaluation = run(ImageDataset(samples, 16))
    assert evaluation.has_mask.sum() == 15
    known = [i for i in range(16) if i != 1]
    images = torch.stack([item["image"] for item in marked]).float() / 255
    maps = TinyDetector()(images).anomaly_maps.detach()[known]
    truth = torch.stack([marked[i]["mask"] for i in known])
    assert evaluation.clean.pixel["pixel_AUROC"][0] == pytest.approx(pixel_auroc(maps, truth))


def test_without_masks_there_are_maps_to_look_at_but_no_pixel_metrics(unmarked):
    evaluation = run(unmarked, keep=keep)
    assert all(cell.pixel == {} for cell in evaluation.cells)
    assert evaluation.clean.views[9].anomaly_map is not None
    assert evaluation.masks[9] is None and evaluation.masks[0] is not None
    assert evaluation.cell("map-pgd", 4 / 255) is None
    moved = evaluation.cell("published-pgd", 4 / 255).scores - evaluation.clean.scores
    assert (moved[evaluation.labels] < 0).all(), "anomalous everywhere, for all that is known"


def test_a_detector_without_maps_has_no_pixel_metrics(marked):
    evaluation = run(marked, ScoreOnly(lambda x: -x.mean(dim=(1, 2, 3))), keep=keep)
    assert [cell.attack for cell in evaluation.cells[1:4]] == ["pgd", "adaptive-pgd", "ensemble"]
    assert all(cell.pixel == {} for cell in evaluation.cells)
    assert evaluation.clean.views[0].anomaly_map is None


def test_an_interrupted_evaluation_continues(marked, tmp_path, evaluation):
    class Interrupted(TinyDetector):
        calls = 0
        limit = 60

        def patch_logits(self, images):
            type(self).calls += 1
            if self.calls > self.limit:
                raise KeyboardInterrupt
            return super().patch_logits(images)

    store = Store(tmp_path / "cells", context="weights")
    with pytest.raises(KeyboardInterrupt):
        run(marked, Interrupted(), keep=keep, store=store, batch_size=4)
    assert list((tmp_path / "cells").glob("*.npz"))
    Interrupted.calls, Interrupted.limit = 0, 10**9
    rest = run(marked, Interrupted(), keep=keep, store=Store(tmp_path / "cells", context="weights"), batch_size=4)
    resumed, Interrupted.calls = Interrupted.calls, 0
    run(marked, Interrupted(), keep=keep, batch_size=4)
    assert resumed < Interrupted.calls
    for one, two in zip(evaluation.cells, rest.cells, strict=True):
        np.testing.assert_allclose(one.scores, two.scores, atol=1e-5)


def test_a_store_never_mixes_contexts_and_survives_damage(tmp_path):
    store = Store(tmp_path, context="a")
    store.put({"scores": np.arange(3.0)}, "clean", range(3))
    assert Store(tmp_path, context="b").get("clean", range(3)) is None
    np.testing.assert_array_equal(Store(tmp_path, context="a").get("clean", range(3))["scores"], np.arange(3.0))
    next(tmp_path.glob("*.npz")).write_bytes(b"PK\x03\x04 cut off")
    assert store.get("clean", range(3)) is None
    Store(tmp_path, context="b").put({"scores": np.arange(3.0)}, "clean", range(3))
    store.clear()
    assert store.get("clean", range(3)) is None
    other = Store(tmp_path, context="b")
    assert other.get("clean", range(3)) is not None, "another evaluation may have been interrupted"
    other.clear()
    assert not tmp_path.exists()


def test_rows_hold_the_metrics_of_the_scores_and_intervals_over_whole_groups(evaluation):
    rng, labels = np.random.default_rng(0), evaluation.labels
    cells = tuple(dataclasses.replace(c, scores=rng.normal(labels).astype(np.float32)) for c in evaluation.cells)
    evaluation = dataclasses.replace(evaluation, cells=cells)
    rows = evaluation_rows(evaluation, SUBJECT, num_resamples=50)
    (row,) = select(rows, detector="tiny", attack="ensemble", epsilon=8 / 255, metric="image_AUROC")
    scores = evaluation.cell("ensemble", 8 / 255).scores
    assert row.value == auroc(scores, labels)
    intervals = [auroc_interval(scores, labels, of, num_resamples=50)[1:] for of in (evaluation.groups, None)]
    leads = [auroc_lead(scores, -evaluation.brightness, labels, of)[1:] for of in (evaluation.groups, None)]
    assert row.interval == intervals[0] != intervals[1] and lead_interval(evaluation, scores) == leads[0] != leads[1]
    assert (row.data, row.split, row.seed, row.norm, row.targets) == ("made", "dev", 3, "linf", "both")
    metrics = {row.metric for row in select(rows, detector="tiny", attack="none")}
    assert metrics == {"image_AUROC", "image_AUPR", "image_F1Max", MATCHED, "pixel_AUROC", "pixel_AUPR", "AUPRO"}
    (row,) = select(rows, detector="tiny", attack="none", metric="pixel_AUROC")
    assert row.value == evaluation.clean.pixel["pixel_AUROC"][0]


def test_baseline_rows_are_the_exact_worst_case(evaluation, marked):
    rows = evaluation_rows(evaluation, SUBJECT, num_resamples=0)
    brightness = torch.stack([item["image"] for item in marked]).float().mean(dim=(1, 2, 3)).numpy() / 255
    (clean,) = select(rows, detector=BASELINE, attack="none", metric="image_AUROC")
    (worst,) = select(rows, detector=BASELINE, attack="exact", epsilon=8 / 255, metric="image_AUROC")
    shifted = brightness + np.where(evaluation.labels, 8 / 255, -8 / 255)  # no made image is near 0 or 1
    assert clean.value == auroc(-brightness, evaluation.labels)
    assert worst.value == auroc(-shifted, evaluation.labels)
    assert worst.value < clean.value


@pytest.mark.parametrize("targets", ["anomalous", "normal"])
def test_the_baseline_is_attacked_where_the_detector_is(marked, targets):
    evaluation = run(marked, suite=Suite(attacks=("pgd",), steps=1, targets=targets))
    rows = evaluation_rows(evaluation, SUBJECT, num_resamples=0)
    hit = evaluation.labels if targets == "anomalous" else ~evaluation.labels
    shifted = evaluation.brightness + hit * np.where(evaluation.labels, 8 / 255, -8 / 255)
    (row,) = select(rows, detector=BASELINE, attack="exact", epsilon=8 / 255, metric="image_AUROC")
    assert row.value == pytest.approx(auroc(-shifted, evaluation.labels))
    assert row.targets == targets


def test_too_few_pairs_of_equal_brightness_are_no_figure(evaluation):
    rows = evaluation_rows(evaluation, SUBJECT, num_resamples=0)
    (row,) = select(rows, detector="tiny", attack="none", metric=MATCHED)
    assert row.value is None and "pair" in row.reason


def test_matched_figure_with_enough_pairs(tmp_path):
    dataset = made_dataset(tmp_path, 60)
    bright = ScoreOnly(lambda x: -x.mean(dim=(1, 2, 3)) + x[:, 0, 3, 3] / 10)
    evaluation = run(dataset, bright, suite=Suite(attacks=("pgd",), steps=1))
    rng = np.random.default_rng(0)
    object.__setattr__(evaluation, "brightness", rng.uniform(0.4, 0.42, 60).astype(np.float32))
    rows = evaluation_rows(evaluation, SUBJECT, num_resamples=0)
    (row,) = select(rows, detector="tiny", attack="none", metric=MATCHED)
    expected = matched_auroc(evaluation.clean.scores, evaluation.labels, evaluation.brightness, 1 / 255 + 1e-7)
    assert row.value == expected.value and expected.num_pairs > 100


def test_each_kind_of_anomaly_has_a_figure_of_its_own(marked):
    defects = iter(["crack", "stain"] * len(marked.samples))
    samples = [sample._replace(kind=next(defects) if sample.label else "good") for sample in marked.samples]
    evaluation = run(ImageDataset(samples, 16), suite=Suite(attacks=("pgd",), steps=1))
    rows = kind_rows(evaluation, SUBJECT)
    keys = [("none", 0.0), *(("pgd", radius) for radius in RADII)]
    expected = [(*key, kind) for key in keys for kind in ("crack", "stain")]
    assert [(row.attack, row.epsilon, row.against) for row in rows] == expected
    wanted = [index for index, sample in enumerate(samples) if sample.kind in ("good", "stain")]
    (row,) = select(rows, attack="pgd", epsilon=8 / 255, against="stain")
    scores = evaluation.cell("pgd", 8 / 255).scores[wanted]
    assert row.value == auroc(scores, evaluation.labels[wanted])
    assert all(row.against is None for row in evaluation_rows(evaluation, SUBJECT, num_resamples=0))


def test_a_single_kind_of_anomaly_is_the_pooled_figure(evaluation):
    assert kind_rows(evaluation, SUBJECT) == []


def test_stopping_early_saves_passes_and_changes_no_auroc(marked):
    counted = []

    class Counting(TinyDetector):
        def forward(self, images):
            counted.append(len(images))
            return super().forward(images)

        def patch_logits(self, images):
            counted.append(len(images))
            return super().patch_logits(images)

    suite = Suite(attacks=("pgd", "adaptive-pgd", "apgd"), steps=20, strong_steps=20)
    figures, passes = [], []
    for stop_early in (False, True):
        counted.clear()
        chosen = dataclasses.replace(suite, stop_early=stop_early)
        evaluation = evaluate(Counting(), marked, chosen, epsilons=[64 / 255], show_progress=False)
        rows = select(evaluation_rows(evaluation, SUBJECT, num_resamples=0), detector="tiny")
        figures.append({(r.attack, r.epsilon, r.metric): r.value for r in rows if r.metric == "image_AUROC"})
        passes.append(sum(counted))
    assert passes[1] < 0.8 * passes[0]
    assert figures[0].keys() == figures[1].keys()
    # an attack that is stopped is at least as strong: "last" iterates may come back, "best" ones do not
    for key, value in figures[0].items():
        assert figures[1][key] <= value + 1e-12 if key[0] == "pgd" else figures[1][key] == pytest.approx(value), key


def test_an_image_is_finished_when_it_ranks_behind_all_clean_ones_of_the_other_class():
    scores = np.array([0.1, 0.4, 0.3, 0.9], np.float32)
    labels = np.array([False, False, True, True])
    found = goals(scores, labels)
    np.testing.assert_allclose(found, [0.9, 0.9, -0.1, -0.1], rtol=1e-6)
    assert (found[:2] > np.float32(0.9)).all() and (-found[2:] < np.float32(0.1)).all(), "a tie is not lost yet"
    assert goals(scores, labels & False) is None and goals(scores, labels | True) is None


def test_one_class_only_is_undefined_with_a_reason(marked):
    dataset = ImageDataset([sample for sample in marked.samples if not sample.label], 16)
    evaluation = run(dataset, suite=Suite(attacks=("ensemble",), strong_steps=1))
    rows = evaluation_rows(evaluation, SUBJECT)
    assert rows and all(row.value is None and row.reason for row in rows)


def test_details_say_what_the_ensemble_consisted_of(evaluation):
    details = evaluation_details(evaluation)
    assert (details["num_normal"], details["num_anomalous"], details["num_with_mask"]) == (8, 8, 8)
    assert details["num_groups"] == 8
    attack = details["attacks"]["ensemble"]
    own = ["published", "score", "lse", "top10", "score"]
    beside = ["published", "score", "map"]  # named attacks: the strong one on the score is its own
    assert [run["goal"] for run in attack["runs"]] == own + beside
    assert attack["skipped"] == {"transfer": "no other detector was given"}
    label = "score: pgd, 2 steps x 2"
    scores = evaluation.cell("ensemble", 4 / 255).members[label]
    assert details["members"][0]["runs"][label]["image_AUROC"] == auroc(scores, evaluation.labels)


def test_nothing_to_test_and_bad_radii_are_errors(marked):
    with pytest.raises(ValueError, match="no test image"):
        run(ImageDataset([], 16))
    with pytest.raises(ValueError, match="pass 8/255"):
        evaluate(TinyDetector(), marked, SUITE, epsilons=[8], show_progress=False)


def test_the_detector_is_left_as_it_was_and_nobody_touches_global_randomness(marked):
    detector = TinyDetector().train()
    state = torch.get_rng_state()
    run(marked, detector, suite=Suite(attacks=("ensemble",), strong_steps=1))
    assert detector.training and all(p.requires_grad and p.grad is None for p in detector.parameters())
    assert torch.equal(torch.get_rng_state(), state)


def test_in_l2_the_ball_is_round_and_the_baseline_has_its_exact_worst_case_in_it(marked):
    suite = Suite(attacks=("pgd", "ensemble", "square"), steps=2, strong_steps=2, queries=4, norm="l2")
    evaluation = evaluate(TinyDetector(), marked, suite, epsilons=(0.5,), keep=keep, show_progress=False)
    assert evaluation.norm == "l2"
    moved = evaluation.cell("square", 0.5).views[9].image / 255.0 - evaluation.clean.views[9].image / 255.0
    assert 0.3 < np.linalg.norm(moved) < 0.5 + 28 * 0.5 / 255  # views are rounded to grey levels
    low, high = evaluation.brightness_bounds[0.5]
    even = 0.5 / (3 * 16 * 16) ** 0.5
    np.testing.assert_allclose(high - evaluation.brightness, even, rtol=0.05)
    np.testing.assert_allclose(evaluation.brightness - low, even, rtol=0.05)
    subject = Subject(detector="tiny", recipe="none", data="made")
    attacked = [row for row in evaluation_rows(evaluation, subject, num_resamples=0) if row.attack != "none"]
    assert {row.norm for row in attacked} == {"l2"}


def test_the_worst_case_is_never_weaker_than_any_attack_beside_it(marked):
    names = tuple(name for name in SUITES if name != "transfer")
    suite = Suite(attacks=names, steps=3, strong_steps=3, restarts=1, queries=20)
    evaluation = run(marked, suite=suite)
    sign = np.where(evaluation.labels, -1, 1)
    for cell in evaluation.cells[1:]:
        worst = evaluation.cell("ensemble", cell.epsilon)
        assert (worst.scores * sign >= cell.scores * sign).all(), cell.attack


def test_long_attacks_are_announced_with_what_they_will_take(marked, monkeypatch, capsys):
    suite = Suite(attacks=("pgd",), steps=1)
    evaluate(TinyDetector(), marked, suite, epsilons=(4 / 255, 8 / 255))
    assert "radii" not in capsys.readouterr().err, "short work stays silent"
    monkeypatch.setattr("robustad.evaluation.runner.WORTH_SAYING", 0.0)
    evaluate(TinyDetector(), marked, suite, epsilons=(4 / 255, 8 / 255))
    text = capsys.readouterr().err
    assert "testing: 16 images, 2 passes for each of them at each of 2 radii: about" in text


def test_what_is_announced_was_measured_without_reading_images(marked, monkeypatch, capsys):
    class Slow(ImageDataset):
        def __getitem__(self, index):
            time.sleep(0.02)
            return super().__getitem__(index)

    class Steady(TinyDetector):
        def patch_logits(self, images):
            time.sleep(0.002 * len(images))
            return super().patch_logits(images)

    monkeypatch.setattr("robustad.evaluation.runner.WORTH_SAYING", 0.01)
    monkeypatch.setattr("robustad.evaluation.runner.duration_text", lambda seconds: f"<{seconds}>")
    suite = Suite(attacks=("pgd",), steps=9)
    evaluate(Steady(), Slow(marked.samples, 16), suite, epsilons=(EPSILON,))
    seconds = float(capsys.readouterr().err.split("<")[1].split(">")[0])
    assert 1.0 < seconds / (10 * 16 * 0.002) < 4.0  # reading took eleven times as long


def test_pieces_of_another_kind_of_attack_are_not_taken(marked, tmp_path):
    """Whatever changes an attack has a place of its own in the store."""
    store, found = Store(tmp_path / "pieces", context="same"), []
    for change in ({}, {"where": "background"}, {"draws": 2}, {"targets": "normal"}, {"stop_early": True}):
        suite = dataclasses.replace(Suite(attacks=("pgd",), steps=2), **change)
        before = len(list((tmp_path / "pieces").glob("*")))
        found.append(run(marked, suite=suite, store=store).cell("pgd", EPSILON).scores)
        assert len(list((tmp_path / "pieces").glob("*"))) > before, change
    assert not np.array_equal(found[0], found[1])
    again = run(marked, suite=Suite(attacks=("pgd",), steps=2), store=store)
    np.testing.assert_array_equal(again.cell("pgd", EPSILON).scores, found[0])


def test_the_baseline_may_change_no_more_than_the_attack(marked, monkeypatch):
    def half(images, where):
        mask = torch.zeros(len(images), *images.shape[-2:], dtype=torch.bool)
        mask[:, :8] = True
        return mask if where == "background" else None

    monkeypatch.setattr("robustad.evaluation.runner.allowed_pixels", half)
    room = {}
    for where in ("everywhere", "background"):
        evaluation = run(marked, suite=Suite(attacks=("pgd",), steps=1, where=where))
        low, high = evaluation.brightness_bounds[EPSILON]
        room[where] = float((high - low).mean())
    assert room["background"] == pytest.approx(room["everywhere"] / 2, rel=0.05)
