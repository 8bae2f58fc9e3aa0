"""What every named attack promises, in every norm, against detectors with maps and without."""

import pytest
import torch
from evaluation_doubles import PATCH, TinyDetector, made_batch
from torch import nn

from robustad.evaluation import SUITE, Batch, Scene, Suite
from robustad.evaluation.where import allowed_pixels
from robustad.evaluation.witness import Witness, away
from robustad.ops.patches import patch_labels
from robustad.types import Prediction

RADIUS = {"linf": 8 / 255, "l2": 0.5}
COUNT = 8


class NoMaps(nn.Module):
    """Scores and nothing else."""

    has_maps = False

    def __init__(self):
        super().__init__()
        self.inner = TinyDetector(1)

    def forward(self, images):
        return Prediction(self.inner(images).scores, None)


DETECTORS = {"maps": TinyDetector, "no maps": NoMaps}


def scene(detector, part=slice(None), **options):
    images, labels, masks = made_batch(COUNT)
    images, labels, masks = images[part], labels[part], masks[part]
    patches = patch_labels(masks, PATCH) if hasattr(detector, "patch_logits") else None
    other = Witness(TinyDetector(2).eval())
    return images, Scene(Witness(detector, **options), labels, masks, patches, other)


def plan_of(name, norm, detector):
    suite = Suite(attacks=(name,), steps=2, strong_steps=3, queries=60, norm=norm)
    (plan,) = suite.plans(detector, has_other=True)
    if not plan.runs:
        assert all("detector has no" in why or "neither" in why for _, why in plan.skipped)
        pytest.skip("this detector does not allow it")
    return plan


def length(offset, norm):
    return offset.abs().flatten(1).amax(1) if norm == "linf" else offset.double().flatten(1).norm(dim=1)


@pytest.mark.parametrize("kind", DETECTORS)
@pytest.mark.parametrize("norm", RADIUS)
@pytest.mark.parametrize("name", SUITE)
def test_contract(name, norm, kind):
    detector, radius = DETECTORS[kind]().train(), RADIUS[norm]
    detector.requires_grad_(True)
    images, where = scene(detector)
    plan = plan_of(name, norm, detector)
    kept, state = images.clone(), torch.random.get_rng_state()
    weights = [parameter.detach().clone() for parameter in detector.parameters()]

    batch = Batch(where, images, seed=4)
    found = batch.attacked(plan, radius)
    assert (length(found.images - images, norm) <= radius + 1e-6).all()
    assert found.images.min() >= 0 and found.images.max() <= 1
    assert (found.images != images).any(), "it is not an idle attack"
    torch.testing.assert_close(found.scores, where.detector(found.images).scores.detach(), msg="scores of these images")
    if all(run.attack.keep == "best" and run.goal not in ("map", "hide", "invent", "transfer") for run in plan.runs):
        sign = away(where.labels)
        assert (found.scores * sign >= batch.clean.scores * sign).all(), "the best iterate is kept"

    assert torch.equal(images, kept) and torch.equal(torch.random.get_rng_state(), state)
    assert detector.training and all(p.requires_grad and p.grad is None for p in detector.parameters())
    assert all(torch.equal(p, w) for p, w in zip(detector.parameters(), weights, strict=True))

    assert torch.equal(Batch(where, images, seed=4).attacked(plan, radius).images, found.images), "repeatable"
    assert torch.equal(Batch(where, images, seed=4).attacked(plan, 0.0).images, images), "radius 0 changes nothing"
    for part in (slice(0, 3), slice(3, None)):
        some, less = scene(detector, part)
        alone = Batch(less, some, seed=4).attacked(plan, radius).scores
        torch.testing.assert_close(alone, found.scores[part], rtol=1e-3, atol=1e-4, msg="it depends on its batch")


@pytest.mark.parametrize("name", ["pgd", "apgd", "square", "spsa", "ensemble"])
def test_only_pixels_that_may_change_do(name):
    detector = TinyDetector()
    images, where = scene(detector)
    allowed = torch.zeros(COUNT, *images.shape[-2:], dtype=torch.bool)
    allowed[:, 4:9, 2:12] = True
    found = Batch(where, images, allowed=allowed).attacked(plan_of(name, "linf", detector), 8 / 255).images
    changed = (found != images).any(dim=1)
    assert changed.any() and not (changed & ~allowed).any()


def test_hide_moves_the_map_over_defects_and_nothing_else_does():
    detector = TinyDetector()
    images, where = scene(detector)
    batch = Batch(where, images)
    found = batch.attacked(plan_of("hide", "linf", detector), 8 / 255)
    assert torch.equal(found.images[~where.labels], images[~where.labels]), "there is nothing to hide"
    marked = where._replace(masks=torch.ones_like(where.masks))  # of normal images, too
    everywhere = Batch(marked, images).attacked(plan_of("hide", "linf", detector), 8 / 255)
    assert torch.equal(everywhere.images[~where.labels], images[~where.labels])

    def over(maps):
        return torch.stack([maps[i][where.masks[i]].mean() for i in range(COUNT) if where.labels[i]])

    assert (over(found.maps) < over(batch.clean.maps)).all()


def test_invent_raises_the_map_in_the_middle_of_every_image():
    detector = TinyDetector()
    images, where = scene(detector)
    batch = Batch(where, images)
    found = batch.attacked(plan_of("invent", "linf", detector), 8 / 255)
    allowed = ~(where.masks & where.labels[:, None, None])
    allowed[:, :6], allowed[:, 10:], allowed[:, :, :6], allowed[:, :, 10:] = False, False, False, False
    assert allowed.flatten(1).any(1).all()
    for before, after, place in zip(batch.clean.maps, found.maps, allowed, strict=True):
        assert after[place].mean() > before[place].mean()


def test_invent_reaches_images_whose_defect_is_nowhere_marked():
    detector = TinyDetector()
    images, where = scene(detector)
    unknown = where._replace(masks=where.masks | where.labels[:, None, None])
    found = Batch(unknown, images).attacked(plan_of("invent", "linf", detector), 8 / 255)
    assert (found.images != images).flatten(1).any(dim=1).all()


@pytest.mark.parametrize("where", ["background", "foreground"])
def test_the_object_is_told_from_the_ground(where):
    images = torch.full((2, 3, 64, 64), 0.2)
    images[0, :, 20:44, 20:44] = 0.9
    allowed = allowed_pixels(images, where)
    inside, outside = allowed[0, 24:40, 24:40], allowed[0, :12]
    assert inside.all() == (where == "foreground") and outside.all() == (where == "background")
    assert inside.any() != outside.any()
    assert allowed[1].all() == (where == "foreground"), "there is no object: all is foreground"
    assert allowed_pixels(images, "everywhere") is None


class Noisy(nn.Module):
    """A score and a strong random slope besides, drawn anew in each call."""

    has_maps = False

    def __init__(self):
        super().__init__()
        self.inner = TinyDetector()

    def forward(self, images):
        scores = self.inner(images).scores
        ways = torch.randn(images.shape, generator=self.source).sign()
        return Prediction(scores + 0.2 * (ways * (images - images.detach())).flatten(1).sum(1), None)


def test_following_the_mean_of_several_calls_beats_a_random_slope():
    def moved(draws):
        detector = Noisy()
        detector.source = torch.Generator().manual_seed(0)
        images, where = scene(detector)
        (plan,) = Suite(attacks=("pgd",), steps=5).plans(detector)
        sign = away(where.labels)
        attacked = Batch(where, images, draws=draws).attacked(plan, 8 / 255).images
        return ((detector.inner(attacked).scores - detector.inner(images).scores) * sign).mean()

    assert moved(64) > 2 * moved(1).abs()
