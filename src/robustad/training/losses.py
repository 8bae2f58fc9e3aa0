"""Losses of PatchGuard: cross-entropy per patch, and the pull of attention towards uniform."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

PUBLISHED_COEFFICIENTS = (0.005, 0.01, 0.05)
_PIECE = 2**20  # products of queries and keys that exist at a time: about what a processor's cache holds


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


def published_attention_losses(
    projections: Sequence[tuple[Tensor, Tensor]],
    num_patches: int,
    coefficients: Sequence[float] = PUBLISHED_COEFFICIENTS,
) -> Tensor:
    """`published_attention_loss` of each image ``(N,)``, from queries and keys; maps of few images exist at a time.

    Args:
        projections: Queries and keys per layer, each ``(N, heads, T, d)``, prefix tokens first.
        num_patches: Patches of an image.
        coefficients: One per layer.
    """

    def pull(queries: Tensor, keys: Tensor) -> Tensor:
        (maps,) = attention_maps([(queries, keys)], num_dropped=1)
        return torch.stack([published_attention_loss([m], num_patches, (1.0,)) for m in maps])

    return _weighted(pull, projections, coefficients)


def attention_loss(
    projections: Sequence[tuple[Tensor, Tensor]], *, num_prefix_tokens: int, coefficients: Sequence[float]
) -> Tensor:
    """The same pull to uniform, from queries and keys alone: no 1e-8 is needed.

    ``mean_ij ln a_ij = mean_i(q_i) . mean_j(k_j) / sqrt(d) - mean_i logsumexp_j(q_i . k_j / sqrt(d))``; prefix tokens
    count in the softmax, not in the means. Products of queries and keys exist for few images at a time.

    Args:
        projections: Queries and keys per layer, each ``(N, heads, T, d)``, prefix tokens first.
        num_prefix_tokens: CLS and registers.
        coefficients: One per layer.
    """

    def pull(queries: Tensor, keys: Tensor) -> Tensor:
        patches = queries[..., num_prefix_tokens:, :] * queries.shape[-1] ** -0.5
        count = patches.shape[-2]
        aligned = (patches.mean(-2) * keys[..., num_prefix_tokens:, :].mean(-2)).sum(-1)
        normaliser = torch.logsumexp(patches @ keys.transpose(-2, -1), dim=-1).mean(-1)
        divergence: Tensor = (-math.log(count) - (aligned - normaliser).mean(1)) / count  # (n, heads) -> (n,)
        return divergence

    return _weighted(pull, projections, coefficients).mean()


def _weighted(
    pull: Callable[[Tensor, Tensor], Tensor],
    projections: Sequence[tuple[Tensor, Tensor]],
    coefficients: Sequence[float],
) -> Tensor:
    """Sum over layers of ``c_i`` times what ``pull`` makes of each image's queries and keys: ``(N,)``."""
    _check_coefficients(len(projections), coefficients)
    layers = zip(coefficients, projections, strict=False)
    terms: list[Tensor] = [c * _InPieces.apply(pull, *pair) for c, pair in layers]
    total: Tensor = torch.stack(terms).sum(0)
    return total


class _InPieces(torch.autograd.Function):
    """A value per image of queries and keys, with its gradients taken in the forward pass, some images at a time.

    What lies between, T x T numbers per head, is gone before the next piece begins; the backward pass only scales.
    """

    @staticmethod
    def forward(ctx: Any, pull: Callable[[Tensor, Tensor], Tensor], queries: Tensor, keys: Tensor) -> Tensor:
        _, heads, tokens, _ = queries.shape
        size = max(1, _PIECE // (heads * tokens**2))
        exact = torch.promote_types(queries.dtype, torch.float32)  # bfloat16 sums would drown the small differences
        wanted, values, gradients = any(ctx.needs_input_grad), [], []
        with torch.autocast(queries.device.type, enabled=False), torch.set_grad_enabled(wanted):
            for piece in zip(torch.split(queries, size), torch.split(keys, size), strict=True):
                q, k = (x.detach().to(exact).requires_grad_(wanted) for x in piece)
                value = pull(q, k)
                values.append(value.detach())
                if wanted:
                    found = torch.autograd.grad(value.sum(), (q, k))
                    gradients.append([x.to(queries.dtype) for x in found])
        if wanted:
            ctx.save_for_backward(*(torch.cat(parts) for parts in zip(*gradients, strict=True)))
        return torch.cat(values)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor, Tensor]:
        of_queries, of_keys = ctx.saved_tensors
        scale = gradient[:, None, None, None].to(of_queries.dtype)
        return None, of_queries * scale, of_keys * scale


def _check_coefficients(count: int, coefficients: Sequence[float]) -> None:
    if count > len(coefficients):
        raise ValueError(f"{count} attention layers need {count} coefficients, got {len(coefficients)}")
