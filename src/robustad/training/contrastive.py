"""Losses of COBRA: contrastive between views, with opposite pairs in place of spurious negative ones.

Rows are grouped: ``groups`` groups of the same images in the same order (views, attacked views). Inside a group, rows
are K blocks of B images: block 0 the normal images, blocks 1.. their pseudo-anomalies.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from robustad._checks import check_choice

TEMPERATURE = 0.5
_EPS = 1e-8


def unit(rows: Tensor) -> Tensor:
    """Rows divided by their length."""
    lengths: Tensor = rows.norm(dim=1, keepdim=True)
    return rows / (lengths + _EPS)


def pair_losses(rows: Tensor, *, detach_columns: bool = False) -> Tensor:
    """``(R, R)``: how far row j is from being the one that row i resembles most, ``-ln(softmax_j)`` without i itself.

    Args:
        rows: Unit rows ``(R, D)``.
        detach_columns: Let gradients through the anchors only, as the released attack does.
    """
    columns = rows.detach() if detach_columns else rows
    likeness = torch.exp(rows @ columns.T / TEMPERATURE)
    likeness = likeness * (1 - torch.eye(len(rows), dtype=rows.dtype, device=rows.device))
    return -torch.log(likeness / (likeness.sum(1, keepdim=True) + _EPS) + _EPS)


def group_pairs(count: int, groups: int, device: torch.device | None = None) -> Tensor:
    """All ``(anchor, other)`` pairs ``(P, 2)`` of the same place in different groups of ``count`` rows."""
    place = torch.arange(count, device=device)
    pairs = [
        torch.stack([place + i * count, place + j * count], dim=1)
        for i in range(groups)
        for j in range(groups)
        if i != j
    ]
    return torch.cat(pairs)


def opposite_pairs(count: int, blocks: int, groups: int = 2, device: torch.device | None = None) -> Tensor:
    """All pairs ``(P, 2)`` of an image and its own pseudo-anomaly, both ways, inside each of the first ``groups``.

    Deviates: the released code takes rows half a group apart, which is right for two blocks only.
    """
    size = count // blocks
    image = torch.arange(size, device=device)
    pairs = []
    for group in range(groups):
        for block in range(1, blocks):
            first, second = image + group * count, image + group * count + block * size
            pairs += [torch.stack([first, second], dim=1), torch.stack([second, first], dim=1)]
    return torch.cat(pairs)


def contrastive_loss(
    rows: Tensor, *, groups: int, opposites: Tensor | None = None, detach_columns: bool = False
) -> Tensor:
    """NT-Xent over groups of the same images, minus the same term over opposite pairs.

    Args:
        rows: Unit rows ``(R, D)``, ``groups`` groups of the same images.
        groups: Number of groups.
        opposites: Pairs ``(P, 2)`` of rows to be driven apart.
        detach_columns: See `pair_losses`.

    Source: COBRA, released ``contrastive_loss.py``.
    """
    losses = pair_losses(rows, detach_columns=detach_columns)
    total = _sum_over(losses, group_pairs(len(rows) // groups, groups, rows.device))
    if opposites is not None:
        total = total - _sum_over(losses, opposites)
    return total / len(rows)


def supervised_loss(rows: Tensor, *, groups: int, blocks: int) -> Tensor:
    """Supervised contrastive loss: all rows of an anchor's own block are alike, normal ones as well.

    Source: Khosla et al., NeurIPS 2020, as the ablation of COBRA names it.
    """
    size = len(rows) // groups // blocks
    labels = torch.arange(blocks, device=rows.device).repeat_interleave(size).repeat(groups)
    alike = (labels[:, None] == labels[None]) & ~torch.eye(len(rows), dtype=torch.bool, device=rows.device)
    losses = pair_losses(rows)
    per_anchor = (losses * alike).sum(1) / alike.sum(1).clamp_min(1)
    return (groups - 1) * per_anchor.mean()  # on the scale of NT-Xent over these groups


def _sum_over(losses: Tensor, pairs: Tensor) -> Tensor:
    return losses[pairs[:, 0], pairs[:, 1]].sum()


def block_labels(count: int, blocks: int, device: torch.device | str = "cpu") -> Tensor:
    """Block of each row of one group of ``count`` rows."""
    return torch.arange(blocks, device=device).repeat_interleave(count // blocks)


def block_loss(logits: Tensor, *, groups: int) -> Tensor:
    """Cross-entropy of the block logits ``(R, K)`` of ``groups`` groups."""
    labels = block_labels(len(logits) // groups, logits.shape[1], logits.device)
    return F.cross_entropy(logits, labels.repeat(groups))


SimilarityLoss = Callable[..., Tensor]


def _plain(rows: Tensor, *, groups: int, blocks: int) -> Tensor:
    del blocks
    return contrastive_loss(rows, groups=groups)


def _opposite(rows: Tensor, *, groups: int, blocks: int) -> Tensor:
    pairs = opposite_pairs(len(rows) // groups, blocks, device=rows.device)
    return -_sum_over(pair_losses(rows), pairs) / len(rows)


def _cobra(rows: Tensor, *, groups: int, blocks: int) -> Tensor:
    return contrastive_loss(
        rows, groups=groups, opposites=opposite_pairs(len(rows) // groups, blocks, device=rows.device)
    )


_SIMILARITY: dict[str, SimilarityLoss | None] = {
    "cls": None,
    "cl": _plain,
    "supcl": supervised_loss,
    "opposite": _opposite,
    "cobra": _cobra,
    "cobra+cls": _cobra,
}
LOSSES = tuple(_SIMILARITY)


def similarity_loss(name: str) -> SimilarityLoss | None:
    """The part of a named loss that reads projections; None if there is none."""
    return _SIMILARITY[check_choice("loss", name, LOSSES)]


def uses_classes(name: str) -> bool:
    """Whether a named loss also classifies blocks."""
    return check_choice("loss", name, LOSSES).endswith("cls")


def trained_terms(name: str) -> tuple[str, ...]:
    """The terms of a score that a named loss trains, see `robustad.detectors.CobraConfig`."""
    trained = {"likeness": similarity_loss(name) is not None, "logit": uses_classes(name)}
    return tuple(term for term, is_trained in trained.items() if is_trained)
