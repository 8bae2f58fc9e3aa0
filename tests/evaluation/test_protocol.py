import pytest
import torch
from evaluation_doubles import PATCH, ScoreOnly, TinyDetector, made_batch
from torch import nn
from torch.nn import functional as F

from robustad.attacks import APGD, PGD, Square
from robustad.detectors import PatchGuard, PatchGuardConfig
from robustad.evaluation import GOALS, SUITE, Batch, Plan, Run, Scene, Suite, worst_case
from robustad.evaluation.ensemble import Attacked
from robustad.evaluation.witness import Judged, Witness, away, frozen, learn_maps
from robustad.ops.patches import patch_labels
from robustad.types import Prediction

EPSILON = 8 / 255


def scene(detector=None, other=None, count=16):
    images, labels, masks = made_batch(count)
    detector = detector or TinyDetector().eval()
    patches = patch_labels(masks, PATCH) if hasattr(detector, "patch_logits") else None
    return images, Scene(Witness(detector), labels, masks, patches, other)


def only(suite, name, detector=None, **options):
    (plan,) = suite.plans(detector or TinyDetector(), **options)
    assert plan.name == name
    return plan


@pytest.mark.parametrize("name", SUITE)
def test_every_attack_stays_in_the_ball_and_moves_its_goal(name):
    images, where = scene(other=Witness(TinyDetector(1).eval()))
    plan = only(Suite(attacks=(name,), steps=3, strong_steps=3), name, has_other=True)
    result = Batch(where, images).attacked(plan, EPSILON)
    assert (result.images - images).abs().max() <= EPSILON + 1e-6
    assert result.images.min() >= 0 and result.images.max() <= 1
    torch.testing.assert_close(result.scores, where.detector(result.images).scores)
    goal = GOALS[plan.runs[0].goal].build(where)
    index = torch.arange(len(images))
    moved = (goal(result.images, index) > goal(images, index))[where.labels if name == "hide" else slice(None)]
    assert moved.float().mean() > 0.9


@pytest.mark.parametrize("name", SUITE)
def test_results_do_not_depend_on_the_batch(name):
    images, where = scene(other=Witness(TinyDetector(1).eval()))
    plan = only(Suite(attacks=(name,), steps=3, strong_steps=3), name, has_other=True)
    whole = Batch(where, images, seed=5).attacked(plan, EPSILON).scores
    parts = []
    for part in (slice(0, 3), slice(3, 16)):
        small = where._replace(labels=where.labels[part], masks=where.masks[part], patch_masks=where.patch_masks[part])
        parts.append(Batch(small, images[part], seed=5).attacked(plan, EPSILON).scores)
    torch.testing.assert_close(torch.cat(parts), whole)


def test_ensemble_is_at_least_as_strong_as_each_member_and_as_no_attack():
    images, where = scene(other=Witness(TinyDetector(1).eval()))
    suite = Suite(attacks=("ensemble",), strong_steps=4)
    plan = only(suite, "ensemble", has_other=True)
    assert [run.goal for run in plan.runs] == ["published", "score", "lse", "top10", "transfer", "score"]
    assert [run.attack for run in plan.runs] == [PGD(steps=4, restarts=2)] * 5 + [APGD(steps=4, restarts=2)]
    batch = Batch(where, images)
    worst = batch.attacked(plan, EPSILON).scores
    sign = torch.where(where.labels, -1.0, 1.0)
    for other in (batch.clean, *(batch.run(run, EPSILON) for run in plan.runs)):
        assert (worst * sign >= other.scores * sign).all()
    assert worst.tolist() != batch.run(plan.runs[1], EPSILON).scores.tolist()  # no member alone is it


def test_worst_case_takes_the_high_side_of_normal_and_the_low_side_of_anomalous_images():
    labels = torch.tensor([False, True])
    first = Attacked(torch.zeros(2, 3, 1, 1), torch.tensor([1.0, 1.0]), torch.zeros(2, 1, 1))
    second = Attacked(torch.ones(2, 3, 1, 1), torch.tensor([2.0, 2.0]), torch.ones(2, 1, 1))
    worst = worst_case([first, second], labels)
    assert worst.scores.tolist() == [2.0, 1.0]
    assert worst.images[:, 0, 0, 0].tolist() == [1.0, 0.0]
    assert worst.maps[:, 0, 0].tolist() == [1.0, 0.0]


@pytest.mark.parametrize("name", ["pgd", "lse-pgd"])
@pytest.mark.parametrize("targets", ["anomalous", "normal"])
def test_only_the_targets_are_attacked_each_by_its_own_label_and_goal(targets, name):
    images, where = scene()
    plan = only(Suite(attacks=(name,), targets=targets, steps=2, strong_steps=2), name)
    hit = where.labels if targets == "anomalous" else ~where.labels
    batch = Batch(where, images, targets=targets, goals=torch.where(hit, torch.inf, -torch.inf))
    result = batch.attacked(plan, EPSILON)
    assert torch.equal((result.images != images).flatten(1).any(dim=1), hit)
    assert ((result.scores - batch.clean.scores) * away(where.labels) > 0)[hit].all()


def test_judged_keeps_the_worst_reported_score_of_all_that_the_attack_saw():
    images, where = scene()
    seen = []
    objective = GOALS["lse"].build(where)
    judged = Judged(objective, where.detector, where.labels, images)

    def spy(x, index):
        seen.append(where.detector.scores(x).detach())
        return judged(x, index)

    PGD(steps=4, restarts=2)(spy, images, epsilon=EPSILON, generator=torch.Generator().manual_seed(0))
    sign = torch.where(where.labels, -1.0, 1.0)
    best = (torch.stack(seen) * sign).amax(0)
    torch.testing.assert_close(where.detector.scores(judged.images) * sign, best)


@pytest.mark.parametrize("goal", ["lse", "top10", "published", "score"])
def test_an_attack_on_a_stand_in_leaves_images_whose_reported_score_has_crossed(goal):
    """Half of the images have a goal on the way: they cost less, and the others end as without goals."""
    images, where = scene()
    run = Run(goal=goal, attack=PGD(steps=20), judged=True)
    sizes = []

    class Counting(TinyDetector):
        def patch_logits(self, images):
            sizes.append(len(images))
            return super().patch_logits(images)

    def reached(goals):
        sizes.clear()
        batch = Batch(where._replace(detector=Witness(Counting())), images, goals=goals)
        return batch.run(run, EPSILON).scores * away(where.labels), sum(sizes)

    start = where.detector.scores(images).detach() * away(where.labels)
    full, passes = reached(None)
    assert (full > start).all()
    near = torch.arange(len(images)) % 2 == 0
    goals = torch.where(near, (start + full) / 2, torch.inf)
    found, fewer = reached(goals)
    assert (found[near] >= goals[near]).all()
    torch.testing.assert_close(found[~near], full[~near])
    assert fewer < 0.9 * passes


def test_goals_of_the_score_do_not_stop_an_attack_on_the_map():
    images, where = scene()
    (run,) = only(Suite(attacks=("map-pgd",), strong_steps=2), "map-pgd").runs
    free, limited = (Batch(where, images, goals=goals) for goals in (None, torch.full((16,), -100.0)))
    assert torch.equal(limited.run(run, EPSILON).images, free.run(run, EPSILON).images)


class HighestOfMap(nn.Module):
    """As most detectors from elsewhere: a map of any scale, whose highest value is the score."""

    has_maps = True

    def forward(self, images):
        maps = 40 * F.avg_pool2d((images - 0.5).square().mean(dim=1, keepdim=True), PATCH)
        maps = F.interpolate(maps, size=images.shape[-1])[:, 0]
        return Prediction(maps.amax(dim=(1, 2)), maps)


def test_a_score_that_is_a_maximum_is_pulled_down_everywhere_at_once():
    """Its own gradient pulls at one place at a time, and the next one takes over."""
    images = torch.full((2, 3, 32, 32), 0.5) + 0.1 * torch.rand(
        2, 3, 32, 32, generator=torch.Generator().manual_seed(1)
    )
    labels = torch.tensor([True, True])
    where = Scene(Witness(HighestOfMap()), labels, torch.ones(2, 32, 32, dtype=torch.bool))
    (plan,) = Suite(attacks=("ensemble",), strong_steps=10, restarts=1).plans(HighestOfMap())
    batch = Batch(where, images)
    goals = {run.goal: batch.run(run, EPSILON).scores for run in plan.runs if run.attack.name == "pgd"}
    assert set(goals) == {"score", "lse", "top10"}
    clean = batch.clean.scores
    assert (clean - goals["lse"] > 2 * (clean - goals["score"])).all()
    assert (clean - goals["top10"] > 1.2 * (clean - goals["score"])).all()
    assert (batch.attacked(plan, EPSILON).scores <= torch.stack(list(goals.values())).amin(0)).all()


def test_pixels_of_a_map_are_compared_in_units_of_their_own_spread():
    images, _ = scene()
    plain, louder = Witness(HighestOfMap()), Witness(HighestOfMap())
    louder.detector.forward = lambda x: Prediction(*(1e3 * part for part in HighestOfMap().forward(x)))
    torch.testing.assert_close(plain.local_scores(images), louder.local_scores(images), rtol=1e-4, atol=1e-4)
    assert Witness(TinyDetector()).local_scores(images).shape[1] == (images.shape[-1] // PATCH) ** 2
    flat = Witness(HighestOfMap()).local_scores(torch.full((1, 3, 32, 32), 0.5))
    assert bool(flat.isfinite().all()), "a map without any spread"


def test_runs_that_two_attacks_share_are_made_once():
    images, where = scene()
    adaptive, ensemble = Suite(attacks=("adaptive-pgd", "ensemble")).plans(TinyDetector())
    assert adaptive.runs[0] in ensemble.runs
    batch = Batch(where, images)
    assert batch.run(adaptive.runs[0], EPSILON) is batch.run(ensemble.runs[1], EPSILON)


def test_members_that_a_detector_does_not_allow_are_skipped_and_named():
    plain = ScoreOnly(lambda x: x.mean(dim=(1, 2, 3)))
    suite = Suite(attacks=("ensemble", "map-pgd", "published-pgd"))
    ensemble, maps, published = suite.plans(plain)
    assert [run.goal for run in ensemble.runs] == ["score", "score"]
    assert dict(ensemble.skipped)["lse"] == "the detector has neither patch logits nor anomaly maps"
    assert dict(ensemble.skipped)["published"] == "the detector has no patch logits"
    assert maps.runs == () and dict(maps.skipped) == {"map": "the detector has no anomaly maps"}
    assert published.runs == ()


def test_plain_attacks_are_the_published_protocol():
    assert SUITE["published-pgd"](Suite()) == (Run(goal="published", attack=PGD.published(steps=10)),)
    assert SUITE["pgd"](Suite()) == (Run(goal="score", attack=PGD(steps=10, keep="last")),)


def test_maps_are_attacked_by_default_only_where_there_are_masks():
    names = [plan.name for plan in Suite().plans(TinyDetector(), has_masks=True)]
    assert names == ["published-pgd", "pgd", "adaptive-pgd", "ensemble", "map-pgd"]
    assert [plan.name for plan in Suite().plans(TinyDetector(), has_masks=False)] == names[:-1]


def test_bad_suites_are_refused():
    with pytest.raises(ValueError, match="did you mean 'ensemble'"):
        Suite(attacks=("ensembel",))
    with pytest.raises(ValueError, match="`targets`"):
        Suite(targets="nobody")
    with pytest.raises(ValueError, match="needs another detector"):
        Suite(attacks=("transfer",)).plans(TinyDetector())


def test_the_short_way_to_a_score_is_the_reported_score():
    config = PatchGuardConfig(image_size=32)
    detector = PatchGuard(config).eval()
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(Witness(detector).scores(images), detector(images).scores)


def test_frozen_puts_everything_back():
    detector = TinyDetector().train()
    detector.head.eval()
    detector.conv.weight.requires_grad_(False)
    with frozen(detector, None):
        assert not detector.training and not detector.conv.training
        assert not any(parameter.requires_grad for parameter in detector.parameters())
    assert detector.training and detector.conv.training and not detector.head.training
    assert not detector.conv.weight.requires_grad and detector.conv.bias.requires_grad


def test_plan_without_runs_is_not_a_worst_case():
    assert not Plan(name="pgd", runs=()).worst_of


def test_without_a_gradient_only_the_black_box_is_left():
    suite = Suite(attacks=("pgd", "ensemble")).with_black_box(has_masks=True, white_box=False)
    pgd, ensemble, square = suite.plans(TinyDetector())
    assert pgd.runs == () and dict(pgd.skipped) == {"score": "the score has no gradient"}
    assert ensemble.runs == square.runs and [type(run.attack) for run in square.runs] == [Square]


def test_a_doubtful_gradient_adds_the_black_box_once():
    suite = Suite(attacks=("square", "ensemble")).with_black_box(has_masks=True, white_box=True)
    assert suite.attacks == ("square", "ensemble")
    assert Suite().with_black_box(has_masks=False, white_box=True).attacks[-2:] == ("ensemble", "square")


@pytest.mark.parametrize("attack", [name for name in SUITE if name != "transfer"])
def test_every_attack_of_a_suite_takes_its_norm(attack):
    for run in Suite(attacks=(attack,), norm="l2").plans(TinyDetector())[0].runs:
        assert run.attack.norm == "l2"


def test_a_module_that_does_not_say_that_it_gives_maps_is_asked():
    class Plain(nn.Module):
        def __init__(self, maps):
            super().__init__()
            self.inner, self.maps = HighestOfMap(), maps

        def forward(self, images):
            answer = self.inner(images)
            return answer if self.maps else answer._replace(anomaly_maps=None)

    for maps in (True, False):
        detector = Plain(maps)
        learn_maps(detector, torch.rand(1, 3, 32, 32))
        assert detector.has_maps is maps
        (plan,) = Suite(attacks=("ensemble",)).plans(detector)
        assert ("lse" in {run.goal for run in plan.runs}) is maps


def test_the_black_box_joins_a_worst_case_and_no_plan_is_no_plan():
    doubtful = Suite(attacks=("pgd",)).with_black_box(has_masks=True, white_box=True)
    assert doubtful.attacks == ("pgd", "square", "ensemble")
    assert Suite(attacks=()).with_black_box(has_masks=True, white_box=True).attacks == ()


def test_the_worst_of_several_calls_is_not_what_is_reported():
    images, labels, masks = made_batch(8)
    generator = torch.Generator().manual_seed(0)
    noisy = ScoreOnly(lambda x: 0 * x.mean(dim=(1, 2, 3)) + torch.randn(len(x), generator=generator))
    plan = Plan(name="ensemble", runs=tuple(Run(goal="score", attack=PGD(steps=n)) for n in (1, 2, 3)))
    found = {
        draws: torch.stack(
            [
                Batch(Scene(Witness(noisy), labels, masks), images, draws=draws).attacked(plan, 0.1).scores
                for _ in range(40)
            ]
        )
        for draws in (1, 2)
    }
    harm = {draws: float((scores * torch.where(labels, -1, 1)).mean()) for draws, scores in found.items()}
    assert harm[1] > 0.8 and abs(harm[2]) < 0.2


def test_the_run_that_does_harm_is_found_through_noise():
    images, labels, masks = made_batch(16)
    generator = torch.Generator().manual_seed(0)
    noisy = ScoreOnly(lambda x: 100 * x.mean(dim=(1, 2, 3)) + 2 * torch.randn(len(x), generator=generator))
    batch = Batch(Scene(Witness(noisy), labels, masks), images, draws=256)
    plan = Plan(name="ensemble", runs=tuple(Run(goal="score", attack=PGD(steps=n)) for n in (1, 2)))
    moved = (batch.attacked(plan, 0.01).images - images).mean(dim=(1, 2, 3))
    assert (moved * torch.where(labels, -1, 1) > 0.009).all(), "the move is half a deviation of the noise of one call"
