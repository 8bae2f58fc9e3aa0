"""Patch features, and the attention behind them, of any layers of our own or any timm Vision Transformer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from robustad.backbones.plain import PlainViT


class ViTFeatures(NamedTuple):
    """Patch features of a batch.

    Attributes:
        tokens: Patch features ``(N, h*w, C * number of feature layers)``, row-major patches.
        projections: One ``(queries, keys)`` pair per attention layer, each ``(N, heads, tokens, d)``, prefix tokens
            (CLS, registers) first; empty unless asked for.
    """

    tokens: Tensor
    projections: list[tuple[Tensor, Tensor]]


class ViTFeatureExtractor(nn.Module):
    """Runs a ViT block by block and collects what PatchGuard reads from it.

    The number of prefix tokens is read from the model, never from its name. Queries and keys are caught where the
    model computes them, so that q/k normalisation and fused attention stay as the model has them.

    Args:
        vit: A `PlainViT`, or any timm `VisionTransformer` (plain, DINOv2, with registers, without CLS).
        feature_layers: 1-based blocks whose patch tokens are returned, each through the final norm.
        attention_layers: 1-based blocks whose queries and keys are returned on request.

    Raises:
        ValueError: If a layer does not exist or is named twice, or an attention layer lies above the last feature
            layer.
    """

    vit: Any  # a PlainViT or one of timm, which has no types

    def __init__(self, vit: Any, *, feature_layers: Sequence[int], attention_layers: Sequence[int] = ()) -> None:
        super().__init__()
        if not _is_vit(vit):
            raise TypeError(f"`backbone` must be a PlainViT or a timm VisionTransformer, got {type(vit).__name__}")
        _check_layers("feature_layers", feature_layers, len(vit.blocks))
        _check_layers("attention_layers", attention_layers, max(feature_layers))
        self.vit = vit
        self.feature_layers = tuple(sorted(feature_layers))
        self.attention_layers = tuple(sorted(attention_layers))
        self.num_prefix_tokens: int = vit.num_prefix_tokens
        self.grid_size: tuple[int, int] = tuple(vit.patch_embed.grid_size)
        self.embed_dim: int = vit.embed_dim * len(self.feature_layers)

    def forward(self, images: Tensor, *, with_attention: bool = False) -> ViTFeatures:
        """Features of normalised images ``(N, 3, H, W)``; ``with_attention`` also collects queries and keys."""
        vit = self.vit
        x = _embedded(vit, images)
        layers = self.attention_layers if with_attention else ()
        features: list[Tensor] = []
        with _projections(vit, layers) as projections:
            for number, block in enumerate(vit.blocks[: max(self.feature_layers)], start=1):
                x = block(x)
                if number in self.feature_layers:
                    features.append(vit.norm(x)[:, self.num_prefix_tokens :])
        return ViTFeatures(torch.cat(features, dim=-1), projections)


def _is_vit(vit: object) -> bool:
    if isinstance(vit, PlainViT):
        return True
    from timm.models.vision_transformer import VisionTransformer

    return isinstance(vit, VisionTransformer)


def _embedded(vit: Any, images: Tensor) -> Tensor:
    """What the first block takes ``(N, prefix + h*w, C)``."""
    if isinstance(vit, PlainViT):
        return vit.embed(images)
    tokens: Tensor = vit.norm_pre(vit._pos_embed(vit.patch_embed(images)))
    return tokens


def _check_layers(name: str, layers: Sequence[int], last: int) -> None:
    wrong = [layer for layer in layers if not 1 <= layer <= last]
    if len(set(layers)) < len(layers):
        raise ValueError(f"`{name}` must name each block once, got {list(layers)}")
    if wrong or (name == "feature_layers" and not layers):
        raise ValueError(
            f"`{name}` must name blocks from 1 to {last} (blocks above the last feature layer never run), "
            f"got {list(layers)}"
        )


@contextmanager
def _projections(vit: Any, layers: Sequence[int]) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Catch queries and keys of ``layers`` (1-based, ascending) while the block runs."""
    caught: list[tuple[Tensor, Tensor]] = []

    def catch(attention: Any, qkv: Tensor) -> None:
        batch, tokens, _ = qkv.shape
        heads = attention.num_heads
        split = qkv.reshape(batch, tokens, 3, heads, -1).permute(2, 0, 3, 1, 4)  # (3, N, heads, tokens, d)
        caught.append((attention.q_norm(split[0]), attention.k_norm(split[1])))

    handles = []
    for layer in layers:
        attention = vit.blocks[layer - 1].attn
        handles.append(attention.qkv.register_forward_hook(lambda _module, _inputs, qkv, at=attention: catch(at, qkv)))
    try:
        yield caught
    finally:
        for handle in handles:
            handle.remove()
