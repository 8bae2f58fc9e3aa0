"""One training step of each method: who is attacked, how far, what the loss is made of, what it depends on."""

from __future__ import annotations

import itertools

import pytest
import torch
from lightning_fabric import Fabric

from robustad.detectors import PatchGuard, PatchGuardConfig
from robustad.ops.patches import patch_labels
from robustad.training import (
    Batch,
    DefaultMethod,
    PublishedMethod,
    ReplayMethod,
    StepContext,
    TrainingConfig,
)
from robustad.training.losses import attention_loss, balanced_patch_loss, published_patch_loss

EPSILON = 4 / 255
METHODS = {"default": DefaultMethod, "published": PublishedMethod}
FABRIC = Fabric(accelerator="cpu", devices=1, precision="32-true")


def square(images, foreground, *, seeds):
    """A grey square in the second patch of the first row, as far as that is foreground."""
    masks = torch.zeros_like(foreground)
    masks[:, 2:14, 18:30] = foreground[:, 2:14, 18:30]
    return torch.where(masks[:, None], 0.9, images), masks


def batch(count=3):
    generator = torch.Generator().manual_seed(3)
    images = 0.3 + 0.3 * torch.rand(count, 3, 32, 32, generator=generator)
    foreground = torch.ones(count, 32, 32, dtype=torch.bool)
    foreground[:, :8] = False
    return Batch(images, foreground, [11, 22, 33][:count])


def make(kind, **options):
    model = options.pop("model", {})
    training = TrainingConfig(**{"max_steps": 10, "epsilon": EPSILON, "epsilon_warmup": 0.0, **options})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = {"image_size": 32, "backbone": "test_vit", "discriminator_hidden": 32, "dropout": 0.0, **model}
        detector = PatchGuard(PatchGuardConfig(**config)).train()
    kinds = {**METHODS, "replay": ReplayMethod}
    return kinds[kind](detector, training, square)


def context(step=0, total=10):
    return StepContext(step, total, 0, FABRIC)


def groups(data=None):
    data = data or batch()
    anomalous, masks = square(data.images, data.foreground, seeds=data.seeds)
    return torch.cat([data.images, anomalous]), torch.cat([torch.zeros_like(masks), masks])


def patch_loss(method, images, masks):
    """The loss that an attack of this method is to raise, image by image where it can be."""
    logits = method.network.patch_logits(images)
    if isinstance(method, DefaultMethod):
        return balanced_patch_loss(logits, *method._targets(masks))
    return published_patch_loss(logits, patch_labels(masks, method.network.patch_size))


@pytest.mark.parametrize("kind", METHODS)
@pytest.mark.parametrize("steps", [1, 2, 10])
def test_the_attack_stays_in_the_ball_and_raises_the_loss(kind, steps):
    method, (images, masks) = make(kind, attack_steps=steps), groups()
    attacked = method.attack(images, masks, EPSILON, [11, 22, 33] * 2)
    assert attacked.shape == images.shape and not attacked.requires_grad
    assert (attacked - images).abs().max() <= EPSILON + 1e-6
    assert attacked.min() >= 0 and attacked.max() <= 1
    assert patch_loss(method, attacked, masks) > patch_loss(method, images, masks) + 1e-4
    assert all(p.grad is None for p in method.network.parameters()), "no weight gradients while attacking"


def test_more_steps_attack_better():
    images, masks = groups()
    reached = []
    for steps in (1, 10):
        method = make("default", attack_steps=steps)
        reached.append(patch_loss(method, method.attack(images, masks, EPSILON, [1, 2, 3] * 2), masks))
    assert reached[1] > reached[0]


@pytest.mark.parametrize("kind", ["default", "replay"])
def test_the_balance_of_the_config_is_the_one_that_is_trained(kind):
    data = batch(2)

    def uneven(images, foreground, *, seeds):
        masks = torch.zeros_like(foreground)
        masks[0, 2:14, 18:30] = True
        masks[1, :, 16:] = True
        return torch.where(masks[:, None], 0.9, images), masks

    found = {}
    for balance in ("patches", "images"):
        method = make(kind, epsilon=0.0, balance=balance)
        method.generator = uneven
        found[balance] = method.loss(method.network, data, context()).total.item()
    images, masks = uneven(data.images, data.foreground, seeds=data.seeds)
    logits = method.network.patch_logits(torch.cat([data.images, images]))
    targets = method._targets(torch.cat([torch.zeros_like(masks), masks]))
    for balance, loss in found.items():
        wanted = balanced_patch_loss(logits, *targets, per_image=balance == "images").item()
        assert loss == pytest.approx(wanted, rel=1e-5)
    assert abs(found["images"] - found["patches"]) > 1e-4


def test_random_starts_follow_the_seed_of_the_image():
    method, (images, masks) = make("default", attack_steps=1), groups()
    before = torch.random.get_rng_state()
    one, same = (method.attack(images, masks, EPSILON, [11, 22, 33] * 2) for _ in range(2))
    other = method.attack(images, masks, EPSILON, [44, 22, 33] * 2)
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(one, same)
    changed = (one != other).flatten(1).any(1)
    assert changed[[0, 3]].all() and not torch.equal(one[0] - images[0], one[3] - images[3])


def test_published_starts_at_the_images_themselves():
    method, (images, masks) = make("published", attack_steps=1), groups()
    attacked = method.attack(images, masks, EPSILON, [0] * 6)
    inside = (images > EPSILON) & (images < 1 - EPSILON)
    steps = (attacked - images)[inside].abs()
    assert ((steps - EPSILON).abs().lt(1e-6) | steps.lt(1e-6)).all(), "one step of 2.5 radii, clipped"


def test_published_sum_is_the_four_groups_in_their_order():
    method = make("published", attack_steps=2)
    images, masks = groups()
    attacked = method.attack(images, masks, EPSILON, [0] * 6)
    clean = method.loss(method.network, batch(), context())
    assert list(clean.parts) == ["loss_normal", "loss_pseudo"], "the attacked half is the rest"
    losses = clean.backward()
    wanted = [patch_loss(method, part[i : i + 3], masks[i : i + 3]) for part in (images, attacked) for i in (0, 3)]
    names = ["loss_normal", "loss_pseudo", "loss_attacked", "loss_attacked_pseudo"]
    assert list(losses.parts) == names
    torch.testing.assert_close(torch.stack(list(losses.parts.values())), torch.stack(wanted).detach())
    torch.testing.assert_close(losses.total, sum(wanted).detach())
    gradients = [parameter.grad.clone() for parameter in method.network.parameters()]
    method.network.zero_grad()
    sum(wanted).backward()
    for found, parameter in zip(gradients, method.network.parameters(), strict=True):
        torch.testing.assert_close(found, parameter.grad, rtol=1e-4, atol=1e-6)
    assert losses.parts["loss_attacked"] > losses.parts["loss_normal"]
    assert losses.parts["loss_attacked_pseudo"] > losses.parts["loss_pseudo"]


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_default_total_is_the_weighted_sum(share):
    method = make("default", clean_fraction=share, attack_steps=2)
    images, masks = groups()
    attacked = method.attack(images, masks, EPSILON, [11, 22, 33] * 2)
    clean, hard = (patch_loss(method, x, masks) for x in (images, attacked))
    losses = method.loss(method.network, batch(), context())
    torch.testing.assert_close(losses.total, share * clean + (1 - share) * hard)
    assert set(losses.parts) == {"loss_attacked"} | ({"loss_clean"} if share else set())


@pytest.mark.parametrize("kind", METHODS)
def test_without_a_radius_there_is_no_attack(kind, monkeypatch):
    method = make(kind, epsilon=0.0)
    monkeypatch.setattr(method, "attack", None)
    losses = method.loss(method.network, batch(), context())
    images, masks = groups()
    parts = [images, images[:3], images[3:]]
    clean = patch_loss(method, parts[0], masks)
    if kind == "published":
        clean = patch_loss(method, parts[1], masks[:3]) + patch_loss(method, parts[2], masks[3:])
    torch.testing.assert_close(losses.total, clean)


@pytest.mark.parametrize("kind", [*METHODS, "replay"])
def test_the_radius_grows_with_the_step(kind):
    method = make(kind, epsilon_warmup=0.5)
    radii = [method.epsilon(context(step, 100)) for step in (0, 25, 50, 99)]
    assert radii == pytest.approx([0.1 * EPSILON, 0.55 * EPSILON, EPSILON, EPSILON])
    assert method.epsilon(context(3, None)) == pytest.approx(0.1 * EPSILON), "not yet known how long the run is"


@pytest.mark.parametrize("kind", METHODS)
def test_attention_is_pulled_where_layers_are_named(kind):
    model = {"attention_layers": (2, 6)}
    method, plain = make(kind, epsilon=0.0, model=model), make(kind, epsilon=0.0)
    difference = (
        method.loss(method.network, batch(), context()).total - plain.loss(plain.network, batch(), context()).total
    )
    assert difference != 0
    if kind == "default":
        images, _ = groups()
        projections = method.network.patch_output(images, with_attention=True).projections
        prefix = method.network.num_prefix_tokens
        pull = attention_loss(projections, num_prefix_tokens=prefix, coefficients=(0.005, 0.01))
        torch.testing.assert_close(difference, pull, rtol=1e-2, atol=1e-7)


@pytest.mark.parametrize(("kind", "passes"), [("default", 2), ("published", 3), ("replay", 1)])
def test_no_pass_compares_a_training_image_with_itself(kind, passes):
    method = make(kind, attack_steps=1, model={"backbone": "vit_reference"})
    data, (stem,), left_out = batch()._replace(sources=[2, 0, 1]), method.network._reference_stems(), []
    stem.register_forward_pre_hook(lambda *_: left_out.append(stem._left_out))
    method.network.prepare(data.images)
    method.loss(method.network, data, context()).backward()
    assert [found is not None and found.tolist() for found in left_out] == [data.sources] * passes


def test_targets_leave_touched_patches_out_but_keep_the_best_of_a_small_anomaly():
    method = make("default")
    masks = torch.zeros(4, 32, 32, dtype=torch.bool)
    masks[0, :16, :16] = True  # one patch in full ...
    masks[0, :16, 16] = True  # ... and a sixteenth of its neighbour: ambiguous
    masks[1, 20, 20] = True  # a single pixel: the fourth patch all the same
    masks[2, :16, 14:18] = True  # an eighth of two patches each: both
    targets, weights = method._targets(masks)
    assert targets.tolist() == [
        [True, False, False, False],
        [False, False, False, True],
        [True, True, False, False],
        [False] * 4,
    ]
    assert weights.tolist() == [[1, 0, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1]]


@pytest.mark.parametrize("kind", [*METHODS, "replay"])
def test_gradients_reach_every_weight(kind):
    method = make(kind)
    method.loss(method.network, batch(), context()).backward()
    method.after_backward()
    without = [name for name, p in method.network.named_parameters() if p.grad is None]
    assert without == []


def test_replays_climb_within_the_ball_and_begin_anew_with_a_new_batch():
    method = make("replay", replays=4)
    images, masks = groups()
    reached, inputs = [], []
    for step in range(4):
        losses = method.loss(method.network, batch(), context(step))
        losses.total.backward()
        inputs.append(method._input.detach().clone())
        reached.append(losses.total.item())
        assert (method._input.grad is None) == (step == 3), "the last update needs no gradient: nobody moves on from it"
        method.after_backward()
        assert (inputs[-1] - images).abs().max() <= EPSILON + 1e-6
        assert inputs[-1].min() >= 0 and inputs[-1].max() <= 1
    assert all(not torch.equal(one, other) for one, other in itertools.pairwise(inputs)), "each update moves it"
    assert reached[-1] > reached[0], "the weights stand still here, so the perturbation alone raises it"
    torch.testing.assert_close(torch.tensor(reached[-1]), patch_loss(method, inputs[-1], masks).detach())
    other = Batch(batch().images, batch().foreground, [7, 8, 9])
    method.loss(method.network, other, context(4))
    assert not torch.equal(method._input, inputs[-1]) and not torch.equal(method._input, inputs[0])


def test_replays_go_on_after_a_resume_in_the_middle_of_a_batch():
    whole, first = make("replay", replays=4), make("replay", replays=4)
    for method, steps in ((whole, 3), (first, 2)):
        for step in range(steps):
            method.loss(method.network, batch(), context(step)).total.backward()
            method.after_backward()
    second = make("replay", replays=4)
    second.restore({key: value.clone() for key, value in first.carried().items()})
    second.loss(second.network, batch(), context(2)).total.backward()
    second.after_backward()
    assert torch.equal(second.carried()["offset"], whole.carried()["offset"])
    assert second.carried()["seeds"].tolist() == [11, 22, 33]
