"""What is maximised: signs, masks, images of one kind only, and gradients against finite differences."""

from __future__ import annotations

import pytest
import torch
from attack_doubles import Toy, images

from robustad.attacks import ImageObjective, MapObjective, PublishedObjective, ScoreObjective, value_and_grad
from robustad.detectors import Brightness, BrightnessConfig

LABELS = torch.tensor([False, True, False, True, True])
ALL = torch.arange(5)


def masks():
    made = torch.rand(5, 8, 8, generator=torch.Generator().manual_seed(1)) < 0.3
    made[0], made[1] = False, True
    return made


def by_hand(values, anomalous):
    """Mean over normal places minus mean over anomalous ones, a missing kind counting 0."""
    result = []
    for row, mask in zip(values.flatten(1), anomalous.flatten(1), strict=True):
        up = row[~mask].mean() if (~mask).any() else torch.tensor(0.0)
        down = row[mask].mean() if mask.any() else torch.tensor(0.0)
        result.append(up - down)
    return torch.stack(result)


def test_scores_rise_for_normal_and_fall_for_anomalous_images():
    x = images()
    scores = Toy()(x).scores.detach()
    value = ImageObjective(Toy(), LABELS)(x, ALL).detach()
    torch.testing.assert_close(value, torch.stack([-s if a else s for s, a in zip(scores, LABELS, strict=True)]))
    assert torch.equal(ScoreObjective(lambda images: Toy()(images).scores, LABELS)(x, ALL).detach(), value)


def test_index_chooses_the_labels_and_masks():
    x, index = images(), torch.tensor([4, 0])
    for objective in (
        ImageObjective(Toy(), LABELS),
        MapObjective(Toy(), masks()),
        PublishedObjective(lambda x: Toy()(x).anomaly_maps.flatten(1), masks().flatten(1)),
    ):
        torch.testing.assert_close(objective(x[index], index), objective(x, ALL)[index])


def test_maps_are_averaged_over_each_kind():
    x = images()
    value = MapObjective(Toy(), masks())(x, ALL)
    torch.testing.assert_close(value, by_hand(Toy()(x).anomaly_maps, masks()))
    maps = Toy()(x).anomaly_maps
    torch.testing.assert_close(value[0], maps[0].mean())  # normal pixels only: all are to rise
    torch.testing.assert_close(value[1], -maps[1].mean())  # anomalous pixels only: all are to fall


def test_the_published_objective_is_the_same_over_patches():
    logits = torch.tensor([[1.0, 2.0, 6.0], [1.0, 2.0, 6.0], [1.0, 2.0, 6.0]])
    patch_masks = torch.tensor([[False, False, True], [False, False, False], [True, True, True]])
    value = PublishedObjective(lambda _: logits, patch_masks)(images(3), torch.arange(3))
    assert value.tolist() == [1.5 - 6, 3.0, -3.0]


def test_a_detector_without_maps_is_refused():
    detector = Brightness(BrightnessConfig(image_size=8))
    with pytest.raises(ValueError, match="gives no anomaly maps"):
        MapObjective(detector, masks())(images(), ALL)


@pytest.mark.parametrize("kind", ["image", "map"])
def test_gradients_are_those_of_finite_differences(kind):
    detector, x = Toy(dtype=torch.float64), images(dtype=torch.float64)
    objective = ImageObjective(detector, LABELS) if kind == "image" else MapObjective(detector, masks())
    values, gradient = value_and_grad(objective, x)
    torch.testing.assert_close(values, objective(x, ALL).detach())
    for seed in range(4):
        direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        step = 1e-6
        with torch.no_grad():
            slope = (objective(x + step * direction, ALL) - objective(x - step * direction, ALL)) / (2 * step)
        torch.testing.assert_close((gradient * direction).flatten(1).sum(1), slope, rtol=1e-6, atol=1e-8)


def test_values_come_without_a_graph():
    values, gradient = value_and_grad(ImageObjective(Toy(), LABELS), images())
    assert not values.requires_grad and not gradient.requires_grad
