"""A plain Vision Transformer in PyTorch alone, so that our own detectors are ready as soon as torch is.

timm's would do the same, but importing timm loads all of its models, torchvision, torch's compiler and the client of a
model hub, which takes longer than torch itself. Names of tensors, starting values and arithmetic are timm's, so that
checkpoints and weight files fit both.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robustad.backbones.embed import GridEmbed

_STD = 0.02  # of starting values, as timm has them
_TINY = 1e-6  # of layer norms, as timm has it


class Attention(nn.Module):
    """Self-attention with one linear map for queries, keys and values.

    Args:
        embed_dim: Width of the tokens.
        num_heads: Heads; must divide the width.
    """

    def __init__(self, embed_dim: int, num_heads: int) -> None:
        super().__init__()
        if embed_dim % num_heads:
            raise ValueError(f"`num_heads` must divide the width {embed_dim}, got {num_heads}")
        self.num_heads = num_heads
        self.qkv = nn.Linear(embed_dim, 3 * embed_dim)
        self.q_norm, self.k_norm = nn.Identity(), nn.Identity()  # who reads queries and keys passes them through these
        self.proj = nn.Linear(embed_dim, embed_dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens ``(N, T, C)`` to tokens of the same shape."""
        split = self.qkv(tokens).unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)  # (3, N, heads, T, d)
        attended = F.scaled_dot_product_attention(*split.unbind(0))
        mixed: Tensor = self.proj(attended.transpose(1, 2).flatten(2))  # (N, heads, T, d) -> (N, T, C)
        return mixed


class Mlp(nn.Module):
    """Two linear maps with a GELU between them, four times as wide inside."""

    def __init__(self, embed_dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(embed_dim, 4 * embed_dim)
        self.fc2 = nn.Linear(4 * embed_dim, embed_dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens ``(N, T, C)`` to tokens of the same shape."""
        hidden: Tensor = self.fc2(F.gelu(self.fc1(tokens)))
        return hidden


class Block(nn.Module):
    """Attention and MLP, each on normalised tokens and added to them."""

    def __init__(self, embed_dim: int, num_heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(embed_dim, eps=_TINY)
        self.attn = Attention(embed_dim, num_heads)
        self.norm2 = nn.LayerNorm(embed_dim, eps=_TINY)
        self.mlp = Mlp(embed_dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens ``(N, T, C)`` to tokens of the same shape."""
        tokens = tokens + self.attn(self.norm1(tokens))
        result: Tensor = tokens + self.mlp(self.norm2(tokens))
        return result


class PlainViT(nn.Module):
    """Patches with learned positions under a stack of blocks; no CLS, no registers, no head.

    Args:
        patch_embed: Images to tokens.
        embed_dim: Width of the tokens.
        depth: Blocks.
        num_heads: Heads per block.
    Source: Dosovitskiy et al., ICLR 2021 (arXiv 2010.11929), without the class token.
    """

    num_prefix_tokens = 0

    def __init__(self, patch_embed: GridEmbed, *, embed_dim: int, depth: int, num_heads: int) -> None:
        super().__init__()
        self.embed_dim = embed_dim
        self.patch_embed = patch_embed
        self.pos_embed = nn.Parameter(torch.empty(1, patch_embed.num_patches, embed_dim))
        self.blocks = nn.Sequential(*(Block(embed_dim, num_heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(embed_dim, eps=_TINY)
        _start(self.pos_embed)
        for module in self.blocks.modules():
            if isinstance(module, nn.Linear):
                _start(module.weight)
                nn.init.zeros_(module.bias)

    def embed(self, images: Tensor) -> Tensor:
        """Tokens ``(N, h*w, C)`` of normalised images, with their positions, as the first block takes them."""
        tokens: Tensor = self.patch_embed(images) + self.pos_embed
        return tokens

    def forward(self, images: Tensor) -> Tensor:
        """Normalised tokens ``(N, h*w, C)`` after the last block."""
        tokens: Tensor = self.norm(self.blocks(self.embed(images)))
        return tokens


@torch.no_grad()
def _start(values: Tensor) -> None:
    """Normal numbers by the inverse of their distribution: timm's way, the same for a seed in any version of torch."""
    values.uniform_(-1, 1).erfinv_().mul_(_STD * math.sqrt(2)).clamp_(-2, 2)  # erfinv of -1 is infinite
