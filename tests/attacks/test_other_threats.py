"""Universal perturbations, stickers, targeted maps, and expectations over draws."""

from __future__ import annotations

import itertools

import pytest
import torch
from attack_doubles import Toy, images

from robustad.attacks import (
    APGD,
    PGD,
    AdversarialPatch,
    EstimatedPGD,
    ExpectedObjective,
    ImageObjective,
    RegionObjective,
    ScoreObjective,
    Square,
    universal_perturbation,
)

LABELS = torch.zeros(12, dtype=torch.bool)
EVERY = torch.arange(12)


def values(target, x):
    with torch.no_grad():
        return target(x, torch.arange(len(x)))


@pytest.mark.parametrize(("norm", "epsilon"), [("linf", 8 / 255), ("l2", 0.7)])
def test_one_perturbation_raises_the_score_of_images_that_it_has_not_seen(norm, epsilon):
    target = ImageObjective(Toy(), LABELS)
    seen, unseen = images(12), images(12, seed=1)
    delta = universal_perturbation(target, seen, epsilon=epsilon, norm=norm)
    assert delta.shape == (3, 8, 8)
    length = delta.abs().max() if norm == "linf" else delta.norm()
    assert length <= epsilon + 1e-6
    gain = values(target, (unseen + delta).clamp(0, 1)) - values(target, unseen)
    assert (gain > 0).float().mean() > 0.6
    own = values(target, PGD(norm=norm)(target, unseen, epsilon=epsilon)) - values(target, unseen)
    assert own.mean() > gain.mean() > 0.1 * own.mean(), "weaker than one for each image, and not idle"
    assert torch.equal(delta, universal_perturbation(target, seen, epsilon=epsilon, norm=norm)), "it can be repeated"


def test_one_pixel_without_a_slope_does_not_stop_a_universal_perturbation():
    x = images(12)
    x[3, :, 0, 0] = 0
    plain = ImageObjective(Toy().eval(), torch.zeros(12, dtype=torch.bool))

    def rooted(seen, index):
        return plain(seen, index) + 1e-6 * seen[:, :, 0, 0].square().sum(dim=1).sqrt()

    assert universal_perturbation(rooted, x, epsilon=8 / 255).abs().max() > 0


def test_a_universal_perturbation_is_never_worse_than_none():
    def falling(x, index):
        return -(x - images(12)[index]).abs().flatten(1).sum(1)

    assert universal_perturbation(falling, images(12), epsilon=0.1).abs().max() == 0
    with pytest.raises(ValueError, match="holds none"):
        universal_perturbation(falling, images(12)[:0], epsilon=0.1)
    with pytest.raises(ValueError, match="`passes` must be at least 1"):
        universal_perturbation(falling, images(12), epsilon=0.1, passes=0)


def test_each_image_has_places_of_its_own_whatever_its_company():
    target, clean = ImageObjective(Toy(), LABELS), images(12)
    sticker = AdversarialPatch(side=0.3, places=1, attack=PGD(steps=2))
    changed = (sticker(target, clean) != clean).any(1)
    corners = {tuple(each.nonzero().amin(0).tolist()) for each in changed if each.any()}
    assert len(corners) > 3
    few = torch.tensor([7, 2])
    alone = sticker(ImageObjective(Toy(), LABELS[few]), clean[few])
    assert torch.equal((alone != clean[few]).any(1), changed[few])


@pytest.mark.parametrize("draws", [1, 4])
def test_a_sticker_changes_one_square_and_raises_the_objective(draws):
    target, clean = ImageObjective(Toy(), LABELS[:5]), images()
    stuck = AdversarialPatch(side=0.4, places=3, attack=APGD(steps=10), draws=draws)(target, clean)
    assert stuck.min() >= 0 and stuck.max() <= 1
    for image, before in zip(stuck, clean, strict=True):
        rows, columns = (image != before).any(0).nonzero(as_tuple=True)
        assert len(rows), "it was used"
        assert rows.max() - rows.min() < 3 and columns.max() - columns.min() < 3, "three of eight pixels a side"
    if draws == 1:
        assert (values(target, stuck) > values(target, clean)).all()


def test_more_places_and_a_larger_square_do_more_harm():
    target, clean = ImageObjective(Toy(), LABELS[:5]), images()

    def reached(**options):
        return values(target, AdversarialPatch(attack=APGD(steps=10), **options)(target, clean))

    assert (reached(places=6) >= reached(places=2)).all()
    assert reached(side=0.6).mean() > reached(side=0.2).mean()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"side": 0}, r"`side` must be in \(0, 1\]"),
        ({"places": 0}, "`places` must be at least 1"),
        ({"draws": 0}, "`draws` must be at least 1"),
        ({"dimming": 1}, r"`dimming` must be in \[0, 1\)"),
    ],
)
def test_options_of_stickers(options, text):
    with pytest.raises(ValueError, match=text):
        AdversarialPatch(**options)


def test_a_defect_is_hidden_or_invented_where_it_was_asked_for():
    detector, clean = Toy(), images()
    region = torch.zeros(5, 8, 8, dtype=torch.bool)
    region[:, 1:4, 2:5] = True

    def inside(x):
        return detector(x).anomaly_maps[:, 1:4, 2:5].mean(dim=(1, 2)).detach()

    for goal, sign in (("hide", -1), ("invent", 1)):
        moved = PGD()(RegionObjective(detector, region, goal), clean, epsilon=8 / 255)
        assert (sign * (inside(moved) - inside(clean)) > 0.05).all()
    with pytest.raises(ValueError, match="`goal` must be one of hide, invent"):
        RegionObjective(detector, region, "erase")


def test_an_expectation_sees_through_a_detector_that_draws_at_random():
    """The gradient of one draw is mostly noise; the mean of many points the right way."""
    way = torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(0))
    noise = torch.Generator().manual_seed(1)

    def score(x):
        return (x * (way + 4 * torch.randn(x.shape, generator=noise))).flatten(1).sum(1)

    def gain(attacked):
        return ((attacked - clean) * way).flatten(1).sum(1).mean()

    clean, noisy = images(), ScoreObjective(score, LABELS[:5])
    one = gain(PGD(steps=5, keep="last")(noisy, clean, epsilon=0.05))
    many = gain(PGD(steps=5, keep="last")(ExpectedObjective(noisy, 40), clean, epsilon=0.05))
    assert many > 1.5 * one > 0
    with pytest.raises(ValueError, match="`draws` must be at least 1"):
        ExpectedObjective(noisy, 0)


def test_an_expectation_over_changes_of_the_input():
    seen = []

    def vary(x, index, draw):
        seen.append((index.tolist(), draw))
        return x + draw

    expected = ExpectedObjective(lambda x, index: x.flatten(1).mean(1), 3, vary)
    clean = images()
    torch.testing.assert_close(expected(clean, torch.arange(5)), clean.flatten(1).mean(1) + 1)
    assert seen == [([0, 1, 2, 3, 4], draw) for draw in range(3)]


@pytest.mark.parametrize("search", [None, Square(queries=5)])
def test_a_universal_perturbation_of_undefined_scores_is_an_error(search):
    x = images()

    def fragile(seen, index):
        known = (seen - x[index]).abs().amax(dim=(1, 2, 3)) < 1e-6
        return torch.where(known, 1.0, torch.nan) * seen.mean(dim=(1, 2, 3))

    with pytest.raises(ValueError, match="NaN for an attacked image"):
        universal_perturbation(fragile, x, epsilon=0.03, search=search)


def test_a_search_for_a_universal_perturbation_has_its_norm():
    with pytest.raises(ValueError, match=r"search\.norm"):
        universal_perturbation(lambda x, _: x.mean(dim=(1, 2, 3)), images(), epsilon=0.5, norm="l2", search=Square())


def test_a_sticker_that_is_searched_by_queries_spends_them_inside_of_it():
    """A look of one colour, of eight: a search over the whole image would hardly ever meet a square this small."""
    clean = torch.full((2, 3, 64, 64), 0.5)
    wanted = torch.tensor([1.0, -1.0, 1.0])[:, None, None]

    def target(x, index):
        del index
        return ((x - 0.5) * wanted).flatten(1).sum(1)

    stuck = AdversarialPatch(side=0.1, places=1, attack=Square(queries=100))(target, clean)
    share = target(stuck, None) / (0.5 * 3 * 6 * 6)
    assert (share > 0.6).all(), f"{share}; searched over the whole image, it is 0.33"


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_squares_are_drawn_where_something_may_change(norm):
    clean = torch.full((3, 3, 32, 32), 0.5)
    mask = torch.zeros(3, 32, 32, dtype=torch.bool)
    mask[:, 4:12, 20:30] = True
    asked = []

    def target(x, index):
        del index
        asked.append((x - clean).abs().amax(1))
        return -x.mean(dim=(1, 2, 3))

    Square(queries=20, norm=norm)(target, clean, epsilon=0.1 if norm == "linf" else 1.0, mask=mask)
    moved = [difference for difference in asked if len(difference) == 3][1:]
    assert all((difference[~mask] == 0).all() for difference in moved)
    assert sum(not torch.equal(a, b) for a, b in itertools.pairwise(moved)) > len(moved) / 3
    if norm == "l2":
        lengths = torch.stack([(3**0.5 * difference).flatten(1).norm(dim=1) for difference in moved])
        assert lengths.amax() > 0.8, "the whole budget, inside"


def test_directions_are_part_of_the_name():
    assert EstimatedPGD().effort != EstimatedPGD(directions="normal").effort
