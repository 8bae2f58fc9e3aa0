"""Attacks that climb in bfloat16 and end in float32."""

import dataclasses

import numpy as np
import pytest
import torch
from evaluation_doubles import TinyDetector, made_dataset

from robustad import _precision
from robustad.attacks import APGD, FGSM, PGD, EstimatedPGD, MomentumPGD, Square
from robustad.detectors import PatchGuard, PatchGuardConfig
from robustad.evaluation import Suite, evaluate
from robustad.evaluation.ensemble import ROUNDING, Batch, stages
from robustad.evaluation.goals import Scene
from robustad.evaluation.protocol import Run
from robustad.evaluation.witness import Witness, away

EPSILON = 4 / 255


def scene(count=8, size=32):
    """A seeded detector and seeded images, half of them anomalous."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        detector = PatchGuard(PatchGuardConfig(image_size=size, backbone="vit_plain")).eval().requires_grad_(False)
    images = torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(count) % 2 == 1
    masks = torch.ones(count, size, size, dtype=torch.bool)
    return images, Scene(Witness(detector), labels, masks, torch.ones(count, 4, dtype=torch.bool))


def wrong(result, where):
    return result.scores * away(where.labels)


@pytest.mark.parametrize(
    ("goal", "attack", "judged"),
    [
        ("score", PGD(steps=20, restarts=2), False),
        ("score", PGD(steps=40, keep="last"), False),
        ("score", MomentumPGD(steps=20), False),
        ("score", APGD(steps=20), False),
        ("score", PGD(steps=20, norm="l2"), False),
        ("lse", PGD(steps=20), True),
    ],
)
def test_as_strong_as_float32_and_never_weaker_than_clean(goal, attack, judged):
    images, where = scene()
    run, radius = Run(goal=goal, attack=attack, judged=judged), 0.7 if attack.norm == "l2" else EPSILON
    exact, quick = Batch(where, images), Batch(where, images, bfloat16=True)
    start, full, found = (wrong(r, where) for r in (exact.clean, exact.run(run, radius), quick.run(run, radius)))
    assert (found >= start).all()
    gained, expected = found - start, full - start
    assert expected.min() > 0 and gained.sum() > 0.97 * expected.sum()
    assert (gained > 0.9 * expected).all(), "no image is spared"
    moved = quick.run(run, radius).images - images
    assert (moved.flatten(1).norm(dim=1) if attack.norm == "l2" else moved.abs()).max() <= radius + 1e-6
    again = Batch(where, images, bfloat16=True).run(run, radius)
    assert torch.equal(again.images, quick.run(run, radius).images)


def test_most_passes_are_rounded_and_the_last_ones_are_not():
    seen = []

    class Watched(TinyDetector):
        def patch_logits(self, images):
            seen.append((torch.is_autocast_enabled("cpu"), torch.is_grad_enabled()))
            return super().patch_logits(images)

    images, labels = torch.rand(4, 3, 16, 16), torch.tensor([False, True, False, True])
    where = Scene(Witness(Watched().eval().requires_grad_(False)), labels, torch.ones(4, 16, 16, dtype=torch.bool))
    batch = Batch(where, images, bfloat16=True)
    seen.clear()
    batch.run(Run(goal="score", attack=PGD(steps=40)), EPSILON)
    steps = [in_bfloat16 for in_bfloat16, gradient in seen if gradient]
    assert steps == [True] * 36 + [False] * 4
    assert not any(in_bfloat16 for in_bfloat16, _ in seen[-6:])


def test_what_gains_nothing_or_would_be_misled_stays_in_float32():
    for attack in (FGSM(), PGD(steps=10), Square(), EstimatedPGD(steps=40)):
        assert stages(attack) is None
    climb, finish = stages(PGD(steps=100, rel_stepsize=0.2, keep="last", norm="l2", restarts=3))
    assert (climb.steps, climb.rel_stepsize, climb.restarts, climb.keep) == (90, 0.2, 3, "last")
    assert (finish.steps, finish.rel_stepsize, finish.restarts, finish.keep) == (10, 0.2, 1, "last")
    assert climb.norm == finish.norm == "l2"
    climb, finish = stages(APGD(steps=20))
    assert (type(climb), climb.steps, type(finish), finish.steps) == (APGD, 17, PGD, 3)
    assert stages(PGD(steps=20))[0].rel_stepsize == 2.5 / 20, "the step is that of all the steps"


@pytest.mark.parametrize("keep", ["best", "last"])
def test_an_image_that_is_finished_stays_so(keep):
    images, where = scene()
    run = Run(goal="score", attack=PGD(steps=40, keep=keep))
    start, full = (wrong(r, where) for r in (Batch(where, images).clean, Batch(where, images).run(run, EPSILON)))
    goals = start + torch.tensor([0.5, 2.0]).repeat(4) * (full - start)
    found = wrong(Batch(where, images, goals=goals, bfloat16=True).run(run, EPSILON), where)
    assert (found[::2] >= goals[::2]).all() and (found[::2] < full[::2]).all()
    assert (found[1::2] > start[1::2] + 0.9 * (full - start)[1::2]).all()


def test_an_image_that_only_seemed_finished_goes_on():
    """Rounding up, bfloat16 says that every image is finished at once; its score in float32 is what counts."""
    images, where = scene()

    class Boastful(Witness):
        def __init__(self, detector, *, bfloat16=False):
            super().__init__(detector, bfloat16=bfloat16)

        def scores(self, images):
            given = super().scores(images)
            return given + 100 * away(where.labels) * self.bfloat16

    run, goals = Run(goal="score", attack=PGD(steps=40)), torch.full((len(images),), 50.0)
    batch = Batch(where, images, goals=goals, bfloat16=True)
    batch._fast = batch._fast._replace(detector=Boastful(where.detector.detector, bfloat16=True))
    start, found = wrong(batch.clean, where), wrong(batch.run(run, EPSILON), where)
    assert (found > start).all()


def test_rounding_finishes_no_image():
    """In bfloat16 every score is a little more wrong than it is; the margin keeps images in the attack."""
    images, where = scene()
    where = where._replace(labels=torch.ones(len(images), dtype=torch.bool))

    class Optimist(Witness):
        def scores(self, images):
            return super().scores(images) - 0.1 * self.bfloat16

    run = Run(goal="score", attack=PGD(steps=40))
    start, full = (wrong(r, where) for r in (Batch(where, images).clean, Batch(where, images).run(run, EPSILON)))
    assert (full > start).all()
    found = {}
    for rounding in (0.0, 0.2):
        batch = Batch(where, images, goals=start + 0.1, rounding=rounding, bfloat16=True)
        batch._fast = batch._fast._replace(detector=Optimist(where.detector.detector, bfloat16=True))
        found[rounding] = wrong(batch.run(run, EPSILON), where) - start
    assert (found[0.2] > found[0.0]).all(), "the climb was stopped before its first step"


def test_the_margin_is_that_of_the_whole_data_set(tmp_path, monkeypatch):
    margins = []

    class Seen(Batch):
        def __init__(self, *args, rounding, **options):
            margins.append(rounding)
            super().__init__(*args, rounding=rounding, **options)

    monkeypatch.setattr("robustad.evaluation.runner.Batch", Seen)
    suite = Suite(attacks=("pgd",), steps=1, stop_early=True)
    options = {"epsilons": [EPSILON], "show_progress": False, "batch_size": 3}
    found = evaluate(TinyDetector(), made_dataset(tmp_path), suite, **options)
    assert len(margins) > 2 and set(margins) == {ROUNDING * float(np.abs(found.clean.scores).max())}


def test_the_suite_chooses_and_reports_float32_scores(tmp_path, monkeypatch):
    monkeypatch.setattr(_precision, "bfloat16_pays", lambda _device: True)
    dataset, figures = made_dataset(tmp_path), {}
    plain = Suite(attacks=("pgd", "apgd"), steps=20, strong_steps=20)
    for precision in ("float32", "auto"):
        suite = dataclasses.replace(plain, precision=precision)
        evaluation = evaluate(TinyDetector(), dataset, suite, epsilons=[EPSILON], show_progress=False, keep=_keep)
        figures[precision] = evaluation.cell("apgd", EPSILON)
    assert not np.array_equal(figures["auto"].scores, figures["float32"].scores)
    np.testing.assert_allclose(figures["auto"].scores, figures["float32"].scores, atol=0.02)
    with pytest.raises(ValueError, match="`precision` must be one of auto, bfloat16, float32; got 'half'"):
        Suite(precision="half")


def _keep(scores, labels):
    return [0]


def test_no_image_is_left_alone_by_the_mean_of_several_calls(tmp_path):
    dataset = made_dataset(tmp_path)
    suite = Suite(attacks=("pgd",), steps=20, draws=2)
    found = [
        evaluate(TinyDetector().eval(), dataset, replaced, epsilons=[64 / 255], show_progress=False)
        for replaced in (suite, dataclasses.replace(suite, stop_early=True))
    ]
    assert np.array_equal(*(evaluation.cell("pgd", 64 / 255).scores for evaluation in found))
