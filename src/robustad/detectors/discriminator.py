"""PatchGuard's patch-wise attention discriminator: one logit per patch, each patch seeing all others."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class AttentionLayer(nn.Module):
    """Attention and MLP with residuals and ONE normalisation, after the attention (as released).

    Args:
        embed_dim: Width of the tokens.
        num_heads: Attention heads.
        hidden_dim: Width of the MLP.
        dropout: Rate on attention weights, on both residual branches and inside the MLP.
    """

    def __init__(self, embed_dim: int, *, num_heads: int, hidden_dim: int, dropout: float) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(embed_dim, num_heads, dropout=dropout, batch_first=True)
        self.norm = nn.LayerNorm(embed_dim)
        self.mlp = nn.Sequential(
            nn.Linear(embed_dim, hidden_dim), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden_dim, embed_dim)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens ``(N, P, C)`` to tokens of the same shape."""
        hidden: Tensor = self.norm(tokens + self.dropout(self._attended(tokens)))
        result: Tensor = hidden + self.dropout(self.mlp(hidden))
        return result

    def _attended(self, tokens: Tensor) -> Tensor:
        """What ``self.attn`` gives; it holds the weights only, since its own forward hides the attention from modes."""
        attn, (count, patches, _) = self.attn, tokens.shape
        projected = F.linear(tokens, attn.in_proj_weight, attn.in_proj_bias)
        heads = projected.reshape(count, patches, 3, attn.num_heads, -1)  # (N, P, 3C) -> (N, P, 3, heads, d)
        queries, keys, values = heads.permute(2, 0, 3, 1, 4).unbind(0)  # each (N, heads, P, d)
        rate = attn.dropout if self.training else 0.0
        attended = F.scaled_dot_product_attention(queries, keys, values, dropout_p=rate)
        result: Tensor = attn.out_proj(attended.transpose(1, 2).flatten(2))  # (N, heads, P, d) -> (N, P, C)
        return result


class AttentionDiscriminator(nn.Module):
    """Position table, attention layers, and a linear map to one logit per patch.

    Args:
        embed_dim: Width of the patch features.
        num_patches: Patches per image.
        num_layers: Attention layers (published: 1).
        num_heads: Heads per layer (published: 4).
        hidden_dim: Width of the MLP (published: 2048).
        dropout: Dropout rate (published: 0.2).
        position_std: Standard deviation of the initial position table (published: 1).
    Source: PatchGuard, section on the discriminator.
    """

    def __init__(
        self,
        embed_dim: int,
        num_patches: int,
        *,
        num_layers: int = 1,
        num_heads: int = 4,
        hidden_dim: int = 2048,
        dropout: float = 0.2,
        position_std: float = 1.0,
    ) -> None:
        super().__init__()
        if embed_dim % num_heads:
            raise ValueError(f"`discriminator_heads` must divide the feature width {embed_dim}, got {num_heads}")
        self.positions = nn.Parameter(torch.randn(num_patches, embed_dim) * position_std)
        self.layers = nn.ModuleList(
            AttentionLayer(embed_dim, num_heads=num_heads, hidden_dim=hidden_dim, dropout=dropout)
            for _ in range(num_layers)
        )
        self.head = nn.Linear(embed_dim, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Patch logits ``(N, P)`` of patch features ``(N, P, C)``."""
        tokens = features + self.positions
        for layer in self.layers:
            tokens = layer(tokens)
        logits: Tensor = self.head(tokens).squeeze(-1)
        return logits
