"""Images to tokens: patches of pixels, of their difference to normal images, or of a pretrained trunk's features."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from robustad.backbones.embedded import folded_stages
from robustad.backbones.reference import ReferenceStem


class GridEmbed(nn.Module):
    """Tokens, their grid, and how to make them; attributes are named as those of timm's patch embedding.

    Args:
        stem: Images ``(N, 3, S, S)`` to features ``(N, channels, h, w)``.
        img_size: Side of the image, pixels.
        patch_size: Pixels per token, each direction.
        in_channels: Channels of the stem's features.
        embed_dim: Width of the tokens.
        kernel_size: Stem features per token, each direction.
        widths: Channels of strided 3x3 convolutions that come before the projection, each halving the features; none
            = one linear map of all features under a token.
    """

    def __init__(
        self,
        stem: nn.Module,
        *,
        img_size: int,
        patch_size: int,
        in_channels: int,
        embed_dim: int,
        kernel_size: int,
        widths: Sequence[int] = (),
    ) -> None:
        super().__init__()
        if img_size % patch_size:
            raise ValueError(f"`image_size` must be a multiple of the patch size {patch_size}, got {img_size}")
        self.stem = stem
        self.img_size = (img_size, img_size)
        self.patch_size = (patch_size, patch_size)
        self.grid_size = (img_size // patch_size, img_size // patch_size)
        self.num_patches = self.grid_size[0] * self.grid_size[1]
        self.convolutions = _convolutions(in_channels, widths)
        channels, kernel = (widths[-1], kernel_size >> len(widths)) if widths else (in_channels, kernel_size)
        self.proj = nn.Conv2d(channels, embed_dim, kernel_size=kernel, stride=kernel)

    def forward(self, images: Tensor) -> Tensor:
        """Tokens ``(N, h*w, embed_dim)``."""
        x: Tensor = self.proj(self.convolutions(self.stem(images)))
        return x.flatten(2).transpose(1, 2)  # (N, C, h, w) -> (N, h*w, C)


def _convolutions(in_channels: int, widths: Sequence[int]) -> nn.Sequential:
    """3x3 convolutions of stride 2, each with a GELU; no normalisation, which would magnify what is faint."""
    layers: list[nn.Module] = []
    for below, width in zip([in_channels, *widths], widths, strict=False):
        convolution = nn.Conv2d(below, width, kernel_size=3, stride=2, padding=1)
        nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
        nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
        layers += [convolution, nn.GELU()]
    return nn.Sequential(*layers)


class Trunk(nn.Module):
    """First stages of the embedded EfficientNet-Lite0 on images normalised to [-1, 1]."""

    def __init__(self, num_stages: int, *, pretrained: bool) -> None:
        super().__init__()
        trunk = folded_stages(num_stages, pretrained=pretrained)
        self.stages = trunk.stages
        self.stride, self.out_channels = trunk.stride, trunk.out_channels

    def forward(self, images: Tensor) -> Tensor:
        """Features ``(N, out_channels, S / stride, S / stride)``."""
        x = images.contiguous(memory_format=torch.channels_last)  # depthwise convolutions: a quarter less time
        for stage in self.stages:
            x = stage(x)
        return x


def reference_embed(
    image_size: int,
    patch_size: int,
    embed_dim: int,
    *,
    pool: int = 1,
    num_references: int = 0,
    detail: bool = False,
    widths: Sequence[int] = (),
) -> GridEmbed:
    """Averages pixels, looks at their difference to normal images, and then cuts patches; by default only the last."""
    stem: nn.Module = nn.Identity()
    channels = 3
    if pool > 1 or num_references or detail or widths:
        stem = ReferenceStem(image_size, pool=pool, num_references=num_references, detail=detail)
        channels = stem.out_channels
    return GridEmbed(
        stem,
        img_size=image_size,
        patch_size=patch_size,
        in_channels=channels,
        embed_dim=embed_dim,
        kernel_size=patch_size // pool,
        widths=widths,
    )


def trunk_embed(image_size: int, patch_size: int, embed_dim: int, *, num_stages: int, pretrained: bool) -> GridEmbed:
    """Cuts patches of what the first stages of the embedded network give (the hybrid of the ViT paper)."""
    trunk = Trunk(num_stages, pretrained=pretrained).eval()
    return GridEmbed(
        trunk,
        img_size=image_size,
        patch_size=patch_size,
        in_channels=trunk.out_channels,
        embed_dim=embed_dim,
        kernel_size=patch_size // trunk.stride,
    )
