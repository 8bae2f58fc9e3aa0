"""Losses of PatchGuard: cross-entropy per patch, and the pull of attention towards uniform."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

PUBLISHED_COEFFICIENTS = (0.005, 0.01, 0.05)


def published_patch_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean over images of the SUM over patches of the cross-entropy of logits ``(N, P)`` and bool targets ``(N, P)``.

    Source: PatchGuard, released ``loss.py``.
    """
    return F.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype), reduction="none").sum(1).mean()


def balanced_patch_loss(logits: Tensor, targets: Tensor, weights: Tensor, *, per_image: bool = False) -> Tensor:
    """Mean cross-entropy of normal patches plus that of anomalous patches: neither drowns the other.

    Deviates from the published sum: there, the few anomalous patches of an image are outvoted by its normal ones.

    Args:
        logits: Patch logits ``(N, P)``.
        targets: ``(N, P)`` bool, True = anomalous.
        weights: ``(N, P)`` in [0, 1]; 0 leaves a patch out (ambiguous: touched by a mask, but hardly).
        per_image: Every anomaly weighs the same, whatever its size; otherwise every anomalous patch does, and large
            anomalies drown small ones.
    """
    positive = targets.to(logits.dtype)
    losses = F.binary_cross_entropy_with_logits(logits, positive, reduction="none") * weights
    anomalous, count = (losses * positive).sum(1), (weights * positive).sum(1)
    if per_image:
        anomalous, count = anomalous / count.clamp_min(1e-6), (count > 0).to(logits.dtype)
    normal = (losses * (1 - positive)).sum() / (weights * (1 - positive)).sum().clamp_min(1)
    return normal + anomalous.sum() / count.sum().clamp_min(1)


def attention_maps(projections: Sequence[tuple[Tensor, Tensor]], *, num_dropped: int) -> list[Tensor]:
    """Softmax maps ``(N, heads, T, T)`` of queries and keys, without the first ``num_dropped`` rows and columns.

    The softmax runs over all tokens; dropping comes afterwards (released code: one token, whatever the model has).
    """
    maps = []
    for queries, keys in projections:
        full = (queries * queries.shape[-1] ** -0.5 @ keys.transpose(-2, -1)).softmax(dim=-1)
        maps.append(full[..., num_dropped:, num_dropped:])
    return maps


def published_attention_loss(
    maps: Sequence[Tensor], num_patches: int, coefficients: Sequence[float] = PUBLISHED_COEFFICIENTS
) -> Tensor:
    """Sum over layers of ``c_i * mean(u * (ln u - ln(A_i + 1e-8)))`` with ``u = 1 / num_patches``.

    Raises:
        ValueError: If there are more maps than coefficients (the released code fails there with an IndexError).
    Source: PatchGuard, attention regulariser; released ``loss.py``.
    """
    _check_coefficients(len(maps), coefficients)
    uniform = 1.0 / num_patches
    terms = [
        c * (uniform * (math.log(uniform) - torch.log(attention + 1e-8))).mean()
        for c, attention in zip(coefficients, maps, strict=False)
    ]
    return torch.stack(terms).sum()


def attention_loss(
    projections: Sequence[tuple[Tensor, Tensor]], *, num_prefix_tokens: int, coefficients: Sequence[float]
) -> Tensor:
    """The same pull to uniform, from queries and keys alone: no attention map is kept, no 1e-8 is needed.

    ``mean_ij ln a_ij = mean_i(q_i) . mean_j(k_j) / sqrt(d) - mean_i logsumexp_j(q_i . k_j / sqrt(d))``; prefix tokens
    count in the softmax, not in the means.

    Args:
        projections: Queries and keys per layer, each ``(N, heads, T, d)``, prefix tokens first.
        num_prefix_tokens: CLS and registers.
        coefficients: One per layer.
    """
    _check_coefficients(len(projections), coefficients)
    terms = []
    for c, (queries, keys) in zip(coefficients, projections, strict=False):
        exact = torch.promote_types(queries.dtype, torch.float32)  # bfloat16 sums would drown the small differences
        queries, keys = queries.to(exact), keys.to(exact)
        patches = queries[..., num_prefix_tokens:, :] * queries.shape[-1] ** -0.5
        count = patches.shape[-2]
        aligned = (patches.mean(-2) * keys[..., num_prefix_tokens:, :].mean(-2)).sum(-1)
        normaliser = torch.logsumexp(patches @ keys.transpose(-2, -1), dim=-1).mean(-1)
        mean_log = (aligned - normaliser).mean()
        terms.append(c * (-math.log(count) - mean_log) / count)
    return torch.stack(terms).sum()


def _check_coefficients(count: int, coefficients: Sequence[float]) -> None:
    if count > len(coefficients):
        raise ValueError(f"{count} attention layers need {count} coefficients, got {len(coefficients)}")
