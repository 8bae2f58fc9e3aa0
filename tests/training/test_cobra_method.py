"""COBRA's step: views from seeds, attacks in shared passes, six losses."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from robustad.detectors.cobra import Cobra, CobraConfig
from robustad.training import Batch, StepContext, TrainingConfig, make_fabric, recipe
from robustad.training.cobra import CobraLossConfig, CobraMethod, frozen
from robustad.training.contrastive import (
    LOSSES,
    block_labels,
    contrastive_loss,
    opposite_pairs,
    pair_losses,
    supervised_loss,
    unit,
)
from robustad.training.engine import learning_rate
from robustad.training.schedules import cobra_cosine

EPSILON = 8 / 255
SIZE = 32


@pytest.fixture(scope="module")
def fabric():
    return make_fabric(TrainingConfig(max_steps=1, precision="float32"), accelerator="cpu")


def batch(count=3):
    images = torch.rand(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    return Batch(images, torch.ones(count, SIZE, SIZE, dtype=torch.bool), [11, 22, 33][:count])


def method(loss="cobra+cls", adversary="released", *, blocks=1, **options):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        detector = Cobra(CobraConfig(width=4, blocks=({"rotation": 1.0},) * blocks))
    config = TrainingConfig(**{"max_steps": 4, "epsilon": EPSILON, "attack_steps": 3, "epsilon_warmup": 0.0, **options})
    return CobraMethod(detector, config, CobraLossConfig(loss=loss, adversary=adversary))


def context(fabric, step=2):
    return StepContext(step, 4, 0, fabric)


def test_views_come_from_seeds_and_the_second_block_is_turned():
    one = method(blocks=2)
    views = one.views(batch(), seed=1)
    again, other = one.views(batch(), seed=1), one.views(batch(), seed=2)
    assert views.first.shape == (9, 3, SIZE, SIZE) and torch.equal(views.first, again.first)
    assert not torch.equal(views.first, other.first) and not torch.equal(views.first, views.second)
    assert views.first.min() >= 0 and views.first.max() <= 1


def test_views_are_mirrored_only_where_that_is_wanted():
    """Brighter to the right: without crops, a view shows by its sides whether it was mirrored."""
    ramp = torch.linspace(0.2, 0.6, 32).expand(8, 3, 32, 32)
    made = Batch(ramp.clone(), torch.ones(8, 32, 32, dtype=torch.bool), list(range(8)))
    for wanted in (True, False):
        one = method()
        one.network.config = dataclasses.replace(one.network.config, crop=False, mirror=wanted)
        views = one.views(made, seed=1)
        normal = torch.cat([views.first[:8], views.second[:8]])
        mirrored = normal[..., 0].mean(dim=(1, 2)) > normal[..., -1].mean(dim=(1, 2))
        assert bool(mirrored.any()) is wanted and not mirrored.all()


def test_the_filter_sees_pseudo_anomalies_only_and_what_it_chooses_is_trained_on():
    class Inverting:
        """Takes the negative of every candidate."""

        def draw(self, make, images, seeds):
            return 1 - make(images, seeds)

    plain, filtered = method(blocks=1), method(blocks=1)
    plain.network.config = filtered.network.config = dataclasses.replace(plain.network.config, crop=False)
    filtered.likelihood = Inverting()
    one, other = plain.views(batch(), seed=1), filtered.views(batch(), seed=1)
    assert torch.equal(one.first[:3], other.first[:3]), "normal images do not pass the filter"
    assert not torch.equal(one.first[3:], other.first[3:])


@pytest.mark.parametrize("adversary", ["released", "figure"])
def test_attacks_stay_in_the_ball_raise_their_objective_and_leave_the_network_alone(adversary):
    one = method(adversary=adversary)
    views = one.views(batch(), seed=1)
    one.network.train()
    before = {key: value.clone() for key, value in one.network.state_dict().items()}
    attacked = one.attacked(views, EPSILON, step=0)
    assert list(attacked) == (["positive", "opposite", "class"] if adversary == "released" else ["loss"])
    for name, images in attacked.items():
        clean = views.first if name == "positive" else views.second
        assert (images - clean).abs().max() <= EPSILON + 1e-6 and images.min() >= 0 and images.max() <= 1
        assert (images - clean).abs().mean() > EPSILON / 4
    assert one.network.training and all(p.requires_grad and p.grad is None for p in one.network.parameters())
    for key, value in one.network.state_dict().items():
        assert torch.equal(value, before[key]), f"{key}: batch statistics moved while attacking"


def test_what_one_adversary_attacks_is_classified_too():
    one = method(adversary="figure")
    views = one.views(batch(), seed=1)
    worst = one.attacked(views, EPSILON, step=0)["loss"]
    parts = [one.total(one.network, views, {"loss": x}).parts["loss_blocks"] for x in (worst, worst.flip(0))]
    assert parts[0] != parts[1]


def test_each_of_the_three_attacks_does_its_own_harm():
    one = method(attack_steps=10)
    views = one.views(batch(), seed=1)
    near, far, classes = one.attacked(views, EPSILON, step=0).values()
    count = len(views.first)
    with frozen(one.network), torch.no_grad():
        rows = {
            name: unit(one.network.features(x).projections)
            for name, x in (("first", views.first), ("second", views.second), ("near", near), ("far", far))
        }
        opposite = rows["second"].roll(count // 2, 0)

        def distance(a, b):
            return contrastive_loss(torch.cat([a, b]), groups=2).item()

        assert distance(rows["near"], rows["second"]) > distance(rows["first"], rows["second"]) + 1e-5
        assert distance(rows["far"], opposite) < distance(rows["second"], opposite) - 1e-5
        labels = block_labels(count, 2)
        worse, clean = (
            torch.nn.functional.cross_entropy(one.network.features(x).logits, labels) for x in (classes, views.second)
        )
        assert worse > clean + 1e-5


@pytest.mark.parametrize("adversary", ["released", "figure"])
def test_each_step_of_an_attack_raises_its_objective_on_average(adversary):
    """Twelve batches: the mean over them rises with every further step of ten."""
    courses = []
    for seed in range(12):
        one, course = method(adversary=adversary, attack_steps=10, seed=seed), []

        def watched(objective, *arguments, honest=one._ascend, course=course):
            def target(x):
                value = objective(x)
                course.append(float(value.detach()))
                return value

            return honest(target, *arguments)

        one._ascend = watched
        one.attacked(one.views(batch(), seed=seed), EPSILON, step=seed)
        courses.append(course)
    mean = torch.tensor(courses).mean(0)
    assert len(mean) == 10 and mean[-1] > mean[0]
    assert (mean.diff() > -0.01 * (mean[-1] - mean[0])).all(), mean


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("blocks", [1, 3])
def test_every_loss_trains(name, blocks, fabric):
    one = method(name, blocks=blocks)
    losses = one.loss(one.network, batch(), context(fabric))
    losses.total.backward()
    slopes = [p.grad.norm() for p in one.network.parameters() if p.grad is not None]
    assert math.isfinite(losses.total.item()) and slopes and torch.stack(slopes).isfinite().all()
    head = one.network.classifier.weight.grad
    assert (head is not None) == name.endswith("cls")
    assert set(losses.parts) == ({"loss_similarity"} if name != "cls" else set()) | (
        {"loss_blocks"} if name.endswith("cls") else set()
    )


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("cls", ["class"]), ("opposite", ["positive", "opposite"]), ("cobra+cls", ["positive", "opposite", "class"])],
)
def test_only_what_the_loss_reads_is_attacked(name, wanted):
    one = method(name)
    assert list(one.attacked(one.views(batch(), seed=1), EPSILON, step=0)) == wanted


def test_a_step_depends_on_its_seed_alone(fabric):
    one, two, other = method(), method(), method(seed=1)
    values = [m.loss(m.network, batch(), context(fabric)).total.item() for m in (one, two, other)]
    assert values[0] == values[1] != values[2]


def test_without_attack_only_the_two_views_are_compared(fabric):
    one = method(epsilon=0.0)
    views = one.views(batch(), seed=1)
    total = one.total(one.network, views, {}).total
    output = one.network.features(torch.cat([views.first, views.second]))
    rows = unit(output.projections)
    wanted = contrastive_loss(rows, groups=2, opposites=opposite_pairs(6, 2))
    wanted = wanted + torch.nn.functional.cross_entropy(output.logits, block_labels(6, 2).repeat(2))
    assert total.item() == pytest.approx(wanted.item(), rel=1e-4)


def test_supervised_loss_by_hand():
    rows = unit(torch.randn(8, 5, generator=torch.Generator().manual_seed(0)).double())
    losses, labels = pair_losses(rows), [0, 0, 1, 1, 0, 0, 1, 1]
    terms = []
    for i in range(8):
        alike = [losses[i, j] for j in range(8) if j != i and labels[i] == labels[j]]
        terms.append(sum(alike) / len(alike))
    assert supervised_loss(rows, groups=2, blocks=2).item() == pytest.approx((sum(terms) / 8).item())


def test_opposites_apart_lower_the_loss_and_spurious_pairs_are_left():
    base = unit(torch.randn(4, 16, generator=torch.Generator().manual_seed(1)))
    far = torch.cat([base[:2], -base[:2]])
    near = torch.cat([base[:2], base[:2]])
    pairs = opposite_pairs(4, 2)
    values = [contrastive_loss(torch.cat([x, x]), groups=2, opposites=pairs).item() for x in (far, near)]
    assert values[0] < values[1] - 0.5


def test_the_learning_rate_warms_up_for_ten_epochs():
    rates = [cobra_cosine(step, 5, 100) for step in range(500)]
    assert rates[0] == 1 and max(rates) == pytest.approx(10, rel=0.02) and rates.index(max(rates)) == 51
    assert rates[-1] < 0.4


def test_the_warm_up_can_be_shorter():
    rates = [cobra_cosine(step, 20, 8, warmup=2) for step in range(160)]
    assert rates.index(max(rates)) == 41 and max(rates) == pytest.approx(10, rel=0.02)
    assert rates[-1] < 2


def test_a_short_training_warms_up_for_a_quarter_and_gently_while_its_length_is_unknown():
    config = recipe("cobra").for_data("digits").training
    rates = [learning_rate(config, StepContext(step, 160, step // 20, None), 20) for step in range(160)]
    assert rates.index(max(rates)) == 41
    begun = [learning_rate(config, StepContext(step, None, 0, None), 20) for step in range(20)]
    assert max(begun) < 2 * config.learning_rate
    endless = [learning_rate(config, StepContext(step, None, step // 20, None), 20) for step in range(150, 800)]
    assert endless == sorted(endless) and endless[-1] == pytest.approx(10 * config.learning_rate, rel=0.02)


@pytest.mark.parametrize(
    ("options", "text"), [({"loss": "cobar"}, "did you mean 'cobra'"), ({"adversary": "none"}, "released")]
)
def test_options_are_checked(options, text):
    with pytest.raises(ValueError, match=text):
        CobraLossConfig(**options)
