"""What every attack promises, in every norm."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from attack_doubles import Toy, images

from robustad.attacks import ATTACKS, NORMS, ImageObjective, MapObjective

RADIUS = {"linf": 8 / 255, "l2": 0.7}
LABELS = torch.tensor([False, True, False, True, True])
EVERY = [(name, norm) for name in ATTACKS for norm in NORMS]
every = pytest.mark.parametrize(("name", "norm"), EVERY)


QUICK = {"square": {"queries": 80}, "estimated-pgd": {"samples": 12}}


def make(name, norm, **options):
    return ATTACKS[name](norm=norm, **QUICK.get(name, {}), **options)


def objective(detector=None, labels=LABELS):
    return ImageObjective(detector or Toy().eval(), labels)


def rugged(clean):
    """Many hills within reach of every pixel, so that where a run starts decides where it ends."""
    phase = 50 * clean.double().flatten(1).cumsum(1).view(clean.shape)
    return lambda x, index: torch.cos(200 * x + phase[index]).flatten(1).mean(1)


def from_anywhere(attack):
    """The same attack, every run from a random start where it has such an option."""
    random = {field.name for field in dataclasses.fields(attack)} & {"random_start"}
    return dataclasses.replace(attack, **dict.fromkeys(random, True), restarts=3)


def values(target, x):
    with torch.no_grad():
        return target(x, torch.arange(len(x)))


def length(offset, norm):
    return offset.abs().flatten(1).amax(1) if norm == "linf" else offset.double().flatten(1).norm(dim=1)


@every
@pytest.mark.parametrize("keep", ["best", "last"])
@pytest.mark.parametrize("epsilon_share", [0.1, 1.0, 20.0])
def test_in_the_ball_and_in_the_unit_cube(name, norm, keep, epsilon_share):
    epsilon = RADIUS[norm] * epsilon_share
    clean = images()
    attacked = make(name, norm, keep=keep)(objective(), clean, epsilon=epsilon)
    assert attacked.shape == clean.shape and attacked.dtype == clean.dtype
    assert attacked.min() >= 0 and attacked.max() <= 1
    assert (length(attacked - clean, norm) <= epsilon + 1e-6).all()
    if name != "fgsm" or epsilon_share <= 1:  # over a long way one step may find nothing better
        assert (length(attacked - clean, norm) > 0.3 * min(epsilon, RADIUS[norm])).all(), "it is not an idle attack"


@every
def test_it_raises_the_objective_of_every_image(name, norm):
    target, clean = objective(), images()
    attacked = make(name, norm)(target, clean, epsilon=RADIUS[norm])
    assert (values(target, attacked) > values(target, clean) + 0.01).all()


@every
def test_best_is_never_worse_than_clean(name, norm):
    """An objective whose gradient points the wrong way: what the last iterate loses, the best one must not."""

    def misleading(x, index):
        falling = -(x - clean[index]).abs().flatten(1).sum(1)
        return falling + (x - x.detach()).flatten(1).sum(1) * 1e6

    clean = images()
    attacked = make(name, norm)(misleading, clean, epsilon=RADIUS[norm])
    assert (values(misleading, attacked) >= values(misleading, clean)).all()
    assert torch.equal(attacked, clean)
    last = make(name, norm, keep="last")(misleading, clean, epsilon=RADIUS[norm])
    if ATTACKS[name].uses_gradient and name != "apgd":  # which goes back to its best iterate
        lost = values(misleading, last) < values(misleading, clean)
        assert lost.all(), "otherwise this objective misleads nobody"


@every
def test_best_is_at_least_as_good_as_last_and_restarts_only_help(name, norm):
    target, clean, epsilon = rugged(images()), images(), RADIUS[norm]
    reached = {
        key: values(target, make(name, norm, **options)(target, clean, epsilon=epsilon))
        for key, options in {
            "last": {"keep": "last"},
            "one": {"restarts": 1},
            "three": {"restarts": 3},
            "eight": {"restarts": 8},
            "last of three": {"restarts": 3, "keep": "last"},
        }.items()
    }
    assert (reached["one"] >= reached["last"]).all()
    assert (reached["three"] >= reached["one"]).all() and (reached["eight"] >= reached["three"]).all()
    if name != "fgsm":  # one step from inside the ball seldom gets further than one from its centre
        assert (reached["three"] > reached["one"]).any() and (reached["eight"] > reached["three"]).any()
    assert (reached["last of three"] >= reached["last"]).all()


@every
@pytest.mark.parametrize("training", [True, False])
def test_nothing_of_the_caller_is_touched(name, norm, training):
    detector = Toy().train(training)
    detector.first.grad = torch.full_like(detector.first, 3.0)
    clean = images().requires_grad_(True)
    kept = clean.detach().clone()
    state, weights = torch.random.get_rng_state(), [p.detach().clone() for p in detector.parameters()]
    attacked = make(name, norm, restarts=2)(objective(detector), clean, epsilon=RADIUS[norm])
    assert detector.training is training
    assert (detector.first.grad == 3).all() and detector.second.grad is None
    assert all(p.requires_grad for p in detector.parameters())
    assert all(torch.equal(p, w) for p, w in zip(detector.parameters(), weights, strict=True))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(clean, kept) and clean.grad is None
    assert not attacked.requires_grad and attacked.data_ptr() != clean.data_ptr()
    assert torch.is_grad_enabled()


@every
def test_works_where_gradients_are_switched_off_and_with_frozen_weights(name, norm):
    detector = Toy().requires_grad_(False)
    expected = make(name, norm)(objective(), images(), epsilon=RADIUS[norm])
    with torch.no_grad():
        attacked = make(name, norm)(objective(detector), images(), epsilon=RADIUS[norm])
        assert not torch.is_grad_enabled()
    assert torch.equal(attacked, expected)


@every
def test_epsilon_0_returns_the_input_as_a_copy(name, norm):
    def never(x, index):
        raise AssertionError("nothing is to be asked")

    clean = images()
    attacked = make(name, norm)(never, clean, epsilon=0.0)
    assert torch.equal(attacked, clean) and attacked.data_ptr() != clean.data_ptr()


@every
def test_an_empty_batch_gives_an_empty_batch(name, norm):
    attacked = make(name, norm)(objective(labels=LABELS[:0]), images()[:0], epsilon=RADIUS[norm])
    assert attacked.shape == (0, 3, 8, 8)


@every
def test_seeds_repeat_and_differ(name, norm):
    attack = from_anywhere(make(name, norm))

    def run(seed):
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        return attack(rugged(images()), images(), epsilon=RADIUS[norm], generator=generator)

    assert torch.equal(run(3), run(3))
    assert not torch.equal(run(3), run(4))
    assert torch.equal(run(None), run(None)), "without a generator, the same start every time"


@every
def test_a_generator_is_moved_on(name, norm):
    generator, attack = torch.Generator().manual_seed(0), from_anywhere(make(name, norm))
    first, second = (attack(rugged(images()), images(), epsilon=RADIUS[norm], generator=generator) for _ in range(2))
    assert not torch.equal(first, second)


@every
@pytest.mark.parametrize("start", ["as made", "anywhere"])
def test_an_image_does_not_see_its_batch(name, norm, start):
    """In float64, where another batch size moves sums by far less than any decision."""
    attack, clean = make(name, norm), images(dtype=torch.float64)
    attack = attack if start == "as made" else from_anywhere(attack)
    detector, order = Toy(dtype=torch.float64), torch.tensor([3, 0])
    for together, part in (
        (objective(detector), objective(detector, LABELS[order])),
        (rugged(clean), rugged(clean[order])),
    ):
        whole, some = (attack(f, x, epsilon=RADIUS[norm]) for f, x in ((together, clean), (part, clean[order])))
        torch.testing.assert_close(some, whole[order], rtol=0, atol=1e-12)


@every
def test_each_image_keeps_its_own_objective(name, norm):
    """``index`` tells the objective which images it sees; maps and masks of one image must not serve another."""
    detector, clean = Toy(dtype=torch.float64), images(dtype=torch.float64)
    masks = torch.rand(5, 8, 8, generator=torch.Generator().manual_seed(5)) < 0.3
    attack = make(name, norm)
    together = attack(MapObjective(detector, masks), clean, epsilon=RADIUS[norm])
    for i in range(5):
        alone = attack(MapObjective(detector, masks[i : i + 1]), clean[i : i + 1], epsilon=RADIUS[norm])
        torch.testing.assert_close(alone[0], together[i], rtol=0, atol=1e-12)


@every
def test_only_masked_pixels_change(name, norm):
    clean, target = images(), objective()
    mask = torch.zeros(5, 8, 8, dtype=torch.bool)
    mask[:, 2:6, 1:7] = True
    attacked = make(name, norm)(target, clean, epsilon=RADIUS[norm], mask=mask)
    changed = (attacked != clean).any(dim=1)
    assert not (changed & ~mask).any() and changed[:, 2:6, 1:7].flatten(1).any(1).all()
    assert (values(target, attacked) > values(target, clean)).all()
    assert (length(attacked - clean, norm) <= RADIUS[norm] + 1e-6).all()
    everything = make(name, norm)(target, clean, epsilon=RADIUS[norm], mask=torch.ones_like(mask))
    assert torch.equal(everything, make(name, norm)(target, clean, epsilon=RADIUS[norm]))
    with pytest.raises(ValueError, match=r"`mask` must be \(5, 8, 8\), got \(8, 8\)"):
        make(name, norm)(target, clean, epsilon=RADIUS[norm], mask=mask[0])


@every
def test_images_that_reached_their_goal_are_left_alone_and_the_others_lose_nothing(name, norm):
    """Goals that two images reach, in float64, where another batch size decides nothing."""
    clean, radius, asked = images(dtype=torch.float64), RADIUS[norm], []
    honest = objective(Toy(dtype=torch.float64))

    def target(x, index):
        asked.extend(index.tolist())
        return honest(x, index)

    attack = make(name, norm, restarts=2)
    free = attack(target, clean, epsilon=radius)
    start, reached = values(honest, clean), values(honest, free)
    goals = torch.full((5,), torch.inf, dtype=torch.float64)
    goals[1], goals[3] = ((start + reached) / 2)[[1, 3]]
    passes = {number: asked.count(number) for number in range(5)}
    asked.clear()
    aimed = attack(target, clean, epsilon=radius, goals=goals)
    now, others = values(honest, aimed), torch.tensor([0, 2, 4])
    assert (now[[1, 3]] >= goals[[1, 3]]).all(), "a goal that was reached stays reached"
    torch.testing.assert_close(aimed[others], free[others], rtol=0, atol=1e-12)
    assert all(asked.count(number) < passes[number] for number in (1, 3))
    assert all(asked.count(number) == passes[number] for number in (0, 2, 4))


@every
def test_what_a_run_starts_from_is_never_lost(name, norm):
    target, clean, radius = objective(), images(), RADIUS[norm]
    found = make("apgd", norm, steps=40)(target, clean, epsilon=radius)
    attacked = make(name, norm)(target, clean, epsilon=radius, start=found)
    assert (values(target, attacked) >= values(target, found) - 1e-6).all()
    assert (length(attacked - clean, norm) <= radius + 1e-6).all()
    outside = make(name, norm)(target, clean, epsilon=radius, start=1 - clean)
    assert (length(outside - clean, norm) <= radius + 1e-6).all() and outside.min() >= 0 and outside.max() <= 1
    assert (values(target, outside) >= values(target, clean)).all()
    last = make(name, norm, keep="last")(target, clean, epsilon=radius, start=found, goals=values(target, found) - 1e-4)
    torch.testing.assert_close(last, found, rtol=0, atol=1e-6)  # finished before the first step
    with pytest.raises(ValueError, match=r"`start` must be \(5, 3, 8, 8\) as the images are, got \(4, 3, 8, 8\)"):
        make(name, norm)(target, clean, epsilon=radius, start=found[:4])


def test_two_halves_of_a_run_are_the_run():
    target, clean = objective(Toy(dtype=torch.float64)), images(dtype=torch.float64)
    way = {"epsilon": 8 / 255}
    whole = make("pgd", "linf", steps=8, rel_stepsize=0.1, keep="last")(target, clean, **way)
    half = make("pgd", "linf", steps=4, rel_stepsize=0.1, keep="last")
    torch.testing.assert_close(half(target, clean, **way, start=half(target, clean, **way)), whole, rtol=0, atol=1e-12)


@every
def test_errors(name, norm):
    attack, target, clean = make(name, norm), objective(), images()
    with pytest.raises(ValueError, match=r"`epsilon` must not be negative, got -0\.1"):
        attack(target, clean, epsilon=-0.1)
    with pytest.raises(ValueError, match="got nan"):
        attack(target, clean, epsilon=float("nan"))
    with pytest.raises(ValueError, match="`images` must be a float tensor"):
        attack(target, (clean * 255).to(torch.uint8), epsilon=0.01)
    with pytest.raises(ValueError, match=r"\(3, 8, 8\)"):
        attack(target, clean[0], epsilon=0.01)
    if norm == "linf":
        with pytest.raises(ValueError, match=r"must be in \[0, 1\], got 8; for 8 grey levels pass 8/255"):
            attack(target, clean, epsilon=8)


@pytest.mark.parametrize("name", ATTACKS)
def test_options_are_checked(name):
    with pytest.raises(ValueError, match="`norm` must be one of l2, linf; got 'Linf'; did you mean 'linf'"):
        make(name, "Linf")
    with pytest.raises(ValueError, match="`keep` must be one of best, last; got 'first'"):
        make(name, "linf", keep="first")
    with pytest.raises(ValueError, match="`restarts` must be at least 1, got 0"):
        make(name, "linf", restarts=0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        make(name, "linf").norm = "l2"


@every
def test_a_pixel_without_a_slope_stops_nothing_but_itself(name, norm):
    """The root of a square has none at 0: autograd says NaN."""
    x = images()
    x[:, :, 0, 0] = 0
    plain = objective()

    def rooted(seen, index):
        return plain(seen, index) + 1e-6 * seen[:, :, 0, 0].square().sum(dim=1).sqrt()

    attack = make(name, norm)
    gains = []
    for target in (plain, rooted):
        found = attack(target, x, epsilon=RADIUS[norm], generator=torch.Generator().manual_seed(0))
        gains.append(values(plain, found) - values(plain, x))
    assert (gains[1] > 0.9 * gains[0]).all() and (gains[0] > 0).all()


@every
def test_a_value_that_is_no_number_is_an_error(name, norm):
    x = images()
    plain = objective()

    def fragile(seen, index):
        return torch.where((seen - x[index]).abs().amax(dim=(1, 2, 3)) > 0, torch.nan, plain(seen, index))

    with pytest.raises(ValueError, match="NaN for an attacked image \\(5 of 5\\)"):
        make(name, norm)(fragile, x, epsilon=RADIUS[norm])


def test_attacks_obey_no_call_of_their_own():
    """The guarantees live in one place."""
    assert all("__call__" not in vars(attack) for attack in ATTACKS.values())


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", ["pgd", "apgd", "momentum-pgd", "fgsm"])
def test_one_infinite_slope_does_not_take_the_whole_step(name, norm):
    """The root of a pixel at 0 is infinitely steep, downwards here: where its step is cut off, others must go on."""
    x, plain = images(), objective()
    x[:, 0, 0, 0] = 0

    def steep(seen, index):
        return plain(seen, index) - 1e-6 * seen[:, 0, 0, 0].sqrt()

    gained = values(plain, make(name, norm)(steep, x, epsilon=RADIUS[norm])) - values(plain, x)
    usual = values(plain, make(name, norm)(plain, x, epsilon=RADIUS[norm])) - values(plain, x)
    assert (gained > 0.5 * usual).all()


@pytest.mark.parametrize("scale", [1e-25, 1e25])
@pytest.mark.parametrize("name", ["pgd", "apgd", "momentum-pgd", "fgsm"])
def test_the_scale_of_a_score_does_not_matter_in_l2(name, scale):
    x, plain = images(), objective()
    gained = values(plain, make(name, "l2")(lambda seen, index: scale * plain(seen, index), x, epsilon=0.7))
    usual = values(plain, make(name, "l2")(plain, x, epsilon=0.7))
    torch.testing.assert_close(gained, usual, rtol=0.05, atol=0.01)
