"""The nearest normal image in pixels."""

from __future__ import annotations

import pytest
import torch

from robustad.attacks import PGD, ImageObjective
from robustad.detectors import NearestNormal, NearestNormalConfig, load_checkpoint, save_checkpoint


def noise(count, seed=0):
    return torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


def fitted():
    return NearestNormal(NearestNormalConfig(image_size=8)).fit([noise(3), noise(2, seed=1)]).eval()


def test_scores_are_distances_to_the_nearest_and_maps_say_where():
    detector, images = fitted(), noise(2, seed=1)
    images[1, :, 2:4, 5] += 0.25
    prediction = detector(images)
    assert prediction.scores[0] < 1e-5
    assert float(prediction.scores[1]) == pytest.approx(0.25 * (2 / 64) ** 0.5, abs=1e-5)
    where = prediction.anomaly_maps[1]
    assert torch.allclose(where[2:4, 5], torch.tensor(0.25), atol=1e-5) and (where > 0.01).sum() == 2
    brute = (noise(40, seed=2)[:, None] - detector.normals[None]).square().mean((2, 3, 4)).sqrt().amin(1)
    torch.testing.assert_close(detector(noise(40, seed=2)).scores, brute)


def test_an_attack_moves_the_score_and_by_no_more_than_its_radius():
    detector, images = fitted(), noise(6, seed=3).double()
    labels = torch.tensor([True, False] * 3)
    before = detector(images).scores
    after = detector(PGD(steps=20)(ImageObjective(detector, labels), images, epsilon=0.02)).scores
    moved = torch.where(labels, before - after, after - before)
    assert moved.max() <= 0.02 + 1e-6 and moved.min() > 0.01


def test_a_checkpoint_gives_equal_scores(tmp_path):
    detector = fitted()
    again = load_checkpoint(save_checkpoint(tmp_path / "c", detector)).detector
    assert torch.equal(again(noise(4, seed=5)).scores, detector(noise(4, seed=5)).scores)


def test_an_empty_memory_says_so():
    detector = NearestNormal(NearestNormalConfig(image_size=8))
    with pytest.raises(ValueError, match="knows no normal image"):
        detector(noise(1))
    with pytest.raises(ValueError, match="no image to remember"):
        detector.fit([])
