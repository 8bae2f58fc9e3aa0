"""Stickers and perturbations for all images: they harm, they are resumable, and nothing leaks between halves."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from evaluation_doubles import ScoreOnly, TinyDetector, made_dataset

from robustad.attacks import PGD
from robustad.data import ImageDataset
from robustad.evaluation import STICKER, UNIVERSAL, Store, Subject, ThreatConfig, evaluate_threats, threat_rows
from robustad.evaluation import threats as module

CONFIG = ThreatConfig(stickers=(0.25, 0.5), universal=(8 / 255,), steps=5)


@pytest.fixture(scope="module")
def marked(tmp_path_factory):
    return made_dataset(tmp_path_factory.mktemp("marked"))


@pytest.fixture(scope="module")
def clean(marked):
    images = torch.stack([item["image"] for item in marked]).float() / 255
    return TinyDetector().eval()(images).scores.detach().numpy()


@pytest.fixture(scope="module")
def threats(marked):
    return evaluate_threats(TinyDetector().eval(), marked, CONFIG, show_progress=False)


def wrong(scores, marked):
    return scores * np.where([sample.label for sample in marked.samples], -1, 1)


def test_stickers_move_every_score_the_wrong_way_and_larger_ones_further(threats, clean, marked):
    small, large = (wrong(threat.scores - clean, marked) for threat in threats[:2])
    assert (small >= 0).all() and small.mean() > 0.001
    assert large.mean() > small.mean()


def test_one_perturbation_for_all_moves_images_that_it_has_not_seen(threats, clean, marked):
    moved = wrong(threats[2].scores - clean, marked)
    assert (moved > 0).mean() > 0.9 and moved.mean() > 5e-4


def test_no_image_helps_to_find_its_own_perturbation(marked, monkeypatch):
    seen = []

    def spy(objective, images, **options):
        seen.append(images)
        return torch.zeros_like(images[0])

    monkeypatch.setattr(module, "universal_perturbation", spy)
    (threat,) = evaluate_threats(TinyDetector().eval(), marked, ThreatConfig(universal=(0.1,)), show_progress=False)
    assert [len(images) for images in seen] == [4, 4, 4, 4]  # two classes of eight, two halves
    images = torch.stack([item["image"] for item in marked]).float() / 255
    normal = [i for i, sample in enumerate(marked.samples) if not sample.label]
    assert torch.equal(seen[0], images[normal[1::2]]) and torch.equal(seen[1], images[normal[0::2]])
    np.testing.assert_allclose(threat.scores, TinyDetector().eval()(images).scores.detach(), atol=1e-6)


def test_batches_and_interruptions_change_nothing(threats, marked, tmp_path, monkeypatch):
    other = evaluate_threats(TinyDetector().eval(), marked, CONFIG, batch_size=5, show_progress=False)
    for one, two in zip(threats, other, strict=True):  # rounding may send the climb of an image elsewhere
        assert np.isclose(one.scores, two.scores, atol=1e-4).mean() > 0.9
    store = Store(tmp_path / "pieces", context="same")
    kept = evaluate_threats(TinyDetector().eval(), marked, CONFIG, store=store, show_progress=False)
    monkeypatch.setattr(module._Work, "scores", None)  # nothing is computed again
    again = evaluate_threats(TinyDetector().eval(), marked, CONFIG, store=store, show_progress=False)
    for one, two in zip(kept, again, strict=True):
        np.testing.assert_array_equal(one.scores, two.scores)


def test_rows_say_which_threat_and_how_large(threats, marked):
    labels = np.array([sample.label for sample in marked.samples])
    rows = threat_rows(threats, labels, Subject(detector="tiny", recipe="none", data="made"))
    assert [(row.attack, row.norm, row.epsilon) for row in rows] == [
        (STICKER, STICKER, 0.25),
        (STICKER, STICKER, 0.5),
        (UNIVERSAL, "linf", 8 / 255),
    ]
    assert all(0 <= row.value <= 1 for row in rows)


def test_one_class_and_few_images_are_no_accident(marked):
    single = ImageDataset([marked.samples[0]], 16)
    threats = evaluate_threats(TinyDetector().eval(), single, CONFIG, show_progress=False)
    assert [bool(np.isfinite(threat.scores).all()) for threat in threats] == [True, True, False], (
        "nothing to find it on"
    )
    rows = threat_rows(threats, np.array([False]), Subject(detector="tiny", recipe="none", data="made"))
    assert all(row.value is None and row.reason for row in rows)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"stickers": (1.5,)}, "`side`"),
        ({"stickers": (0.2, 0.2)}, "twice"),
        ({"universal": (8,)}, "pass 8/255"),
        ({"universal": (0,)}, "above 0"),
        ({"universal": (-1.0,), "norm": "l2"}, "negative"),
        ({"stickers": (0.2,), "sticker_draws": 0}, "`sticker_draws`"),
    ],
)
def test_bad_input(options, text):
    with pytest.raises(ValueError, match=text):
        ThreatConfig(**options)


class Blind(TinyDetector):
    """A gradient that is not there."""

    differentiable = False

    def forward(self, images):
        return super().forward(images.detach())


class Shattered(TinyDetector):
    """A gradient that says nothing of the score."""

    def patch_logits(self, images):
        return super().patch_logits(images.detach()) + 0 * images.mean()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_without_a_gradient_everything_is_searched_by_queries(marked, clean, monkeypatch, norm):
    monkeypatch.setattr(module, "QUERIES", 30)
    config = replace(CONFIG, norm=norm, universal=(8 / 255 if norm == "linf" else 0.5,))
    threats = evaluate_threats(Blind().eval(), marked, config, show_progress=False)
    for threat in threats[:2]:
        assert (wrong(threat.scores - clean, marked) >= 0).all() and wrong(threat.scores - clean, marked).mean() > 0
    assert (wrong(threats[2].scores - clean, marked) > 0).mean() > 0.7
    labels = np.array([sample.label for sample in marked.samples])
    rows = threat_rows(threats, labels, Subject(detector="tiny", recipe="none", data="made"))
    assert [row.norm for row in rows] == [STICKER, STICKER, norm]


def test_where_gradients_are_not_believed_queries_have_the_last_word(marked, clean, monkeypatch):
    monkeypatch.setattr(module, "QUERIES", 30)
    detector, moved = Shattered().eval(), {}
    for doubtful in (False, True):
        config = replace(CONFIG, without_gradient=doubtful)
        found = evaluate_threats(detector, marked, config, show_progress=False)
        harm = [wrong(threat.scores - clean, marked) for threat in found]
        moved[doubtful] = [float(of[label::2].mean()) for of in harm for label in (0, 1)]  # they take turns
    assert all(blind > fooled for blind, fooled in zip(moved[True], moved[False], strict=True)), moved


def test_a_sticker_that_has_to_work_when_turned_is_weaker_as_it_is(marked, clean):
    config = ThreatConfig(stickers=(0.4,), steps=8)
    (plain,) = evaluate_threats(TinyDetector().eval(), marked, config, show_progress=False)
    (turned,) = evaluate_threats(TinyDetector().eval(), marked, replace(config, sticker_draws=6), show_progress=False)
    assert wrong(plain.scores - clean, marked).mean() > wrong(turned.scores - clean, marked).mean()


def test_a_sticker_has_to_work_in_every_quarter_turn():
    seen, slopes = [], torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(0))
    target = lambda x, _: seen.append(x.detach()) or (x * slopes).sum(dim=(1, 2, 3))  # noqa: E731
    sticker = module.AdversarialPatch(side=1.0, places=1, attack=PGD(steps=1), draws=9, dimming=0.0)
    sticker(target, torch.full((1, 3, 8, 8), 0.5))
    drawn = seen[-9:]
    turned = [torch.rot90(drawn[0], number, (2, 3)) for number in range(4)]
    assert {next(number for number in range(4) if torch.equal(turned[number], x)) for x in drawn} == {0, 1, 2, 3}


def test_what_was_searched_in_another_way_is_searched_again(marked, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "QUERIES", 3)
    monkeypatch.setattr(module, "UNIVERSAL_QUERIES", 3)
    store = Store(tmp_path / "pieces", context="same")
    few = ImageDataset(marked.samples[:4], 16)
    base = ThreatConfig(stickers=(0.3,), universal=(0.1,), steps=2)
    for change in ({}, {"sticker_draws": 2}, {"norm": "l2"}, {"without_gradient": True}, {"draws": 2}, {"steps": 3}):
        before = len(list((tmp_path / "pieces").glob("*")))
        evaluate_threats(TinyDetector().eval(), few, replace(base, **change), store=store, show_progress=False)
        assert len(list((tmp_path / "pieces").glob("*"))) > before, change


def test_every_step_follows_as_many_calls_as_are_asked_for(marked):
    calls = []

    def score(x):
        calls.append(len(x))
        return x.mean(dim=(1, 2, 3))

    few, counted = ImageDataset(marked.samples[:4], 16), []
    for draws in (1, 5):
        calls.clear()
        config = ThreatConfig(stickers=(0.3,), steps=3, draws=draws)
        evaluate_threats(ScoreOnly(score), few, config, show_progress=False)
        counted.append(len(calls))
    assert counted[1] > 4 * counted[0]


def test_a_universal_perturbation_gets_all_of_its_steps(marked, monkeypatch):
    """Eight images of a class: four are one batch, and forty passes are forty steps."""
    seen = []
    found = module.universal_perturbation

    def counting(*arguments, **options):
        seen.append(options["passes"])
        return found(*arguments, **options | {"passes": 1})

    monkeypatch.setattr(module, "universal_perturbation", counting)
    config = ThreatConfig(universal=(8 / 255,))
    evaluate_threats(TinyDetector().eval(), marked, config, show_progress=False)
    assert set(seen) == {40}
    seen.clear()
    monkeypatch.setattr(module, "BATCH", 3)
    evaluate_threats(TinyDetector().eval(), marked, config, show_progress=False)
    assert set(seen) == {20}, "two batches in each pass"


def test_a_sticker_never_counts_for_less_than_none(marked, clean):
    """What is best on average over turns may do good as it is."""
    config = ThreatConfig(stickers=(0.25,), sticker_draws=8, steps=2)
    (found,) = evaluate_threats(TinyDetector().eval(), marked, config, show_progress=False)
    assert (wrong(found.scores - clean, marked) >= -1e-6).all()


def test_no_object_helps_to_find_the_perturbation_of_its_other_pictures(marked, monkeypatch):
    samples = [sample._replace(group=f"object{index // 8}") for index, sample in enumerate(marked.samples)]
    seen = []

    def spy(objective, images, **options):
        seen.append(images)
        return torch.zeros_like(images[0])

    monkeypatch.setattr(module, "universal_perturbation", spy)
    dataset, config = ImageDataset(samples, marked.image_size), ThreatConfig(universal=(0.1,))
    evaluate_threats(TinyDetector().eval(), dataset, config, show_progress=False)
    images = torch.stack([item["image"] for item in marked]).float() / 255
    assert torch.equal(seen[0], images[8::2]) and torch.equal(seen[1], images[:8:2]), "normal images of either object"


def test_many_images_are_fitted_evenly(marked, monkeypatch):
    seen = []
    monkeypatch.setattr(module, "MAX_FITTED", 2)
    monkeypatch.setattr(module, "universal_perturbation", lambda _o, images, **_: seen.append(images) or images[0] * 0)
    evaluate_threats(TinyDetector().eval(), marked, ThreatConfig(universal=(0.1,)), show_progress=False)
    images = torch.stack([item["image"] for item in marked]).float() / 255
    assert torch.equal(seen[0], images[0::2][1::2][[0, 2]]), "of four"


def test_what_is_said_to_have_no_gradient_is_not_climbed(marked, monkeypatch):
    def climb(*_args, **_options):
        raise AssertionError("a gradient was followed")

    monkeypatch.setattr(module.APGD, "__call__", climb)
    config = ThreatConfig(stickers=(0.25,), white_box=False, without_gradient=True, universal=(0.1,))
    monkeypatch.setattr(module, "QUERIES", 3)
    monkeypatch.setattr(module, "UNIVERSAL_QUERIES", 3)
    detector = ScoreOnly(lambda x: x.detach().mean(dim=(1, 2, 3)))
    assert len(evaluate_threats(detector, marked, config, show_progress=False)) == 2


def test_noise_is_not_taken_for_harm_of_a_sticker(marked):
    generator = torch.Generator().manual_seed(0)
    noisy = ScoreOnly(lambda x: 0 * x.mean(dim=(1, 2, 3)) + torch.randn(len(x), generator=generator))
    config = ThreatConfig(stickers=(0.25,), steps=2, draws=2, without_gradient=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "QUERIES", 2)
        found = [evaluate_threats(noisy, marked, config, show_progress=False)[0].scores for _ in range(20)]
    harm = wrong(np.stack(found), marked).mean()
    assert abs(harm) < 0.2, "the most wrong of three calls would be wrong by 0.85 on average"


def test_a_score_without_bounds_is_the_most_wrong_one(marked):
    def explodes(x):
        means = x.mean(dim=(1, 2, 3))
        return torch.where(x.amax(dim=(1, 2, 3)) > 0.99, means * 1e38 * 1e38, means)

    (threat,) = evaluate_threats(
        ScoreOnly(explodes), marked, ThreatConfig(stickers=(0.5,), steps=20), show_progress=False
    )
    assert np.isfinite(threat.scores).all() and threat.scores.max() > 1e30
