"""Released PatchGuard weights: the state dict of the authors' code, under our names, without loss."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from robustad._checks import check_choice
from robustad.detectors.patchguard import PatchGuard, PatchGuardConfig
from robustad.errors import CheckpointError

# theirs -> ours; the layer number of the discriminator stands between the parts of a pair
_PREFIXES = {"feature_extractor.pretrained_model.": "features.vit."}
_DISCRIMINATOR = {
    "positional_encodings": "positions",
    "transformer_encoder.": "layers.",
    "output_layer.0.": "head.",
    ".layer_norm_1.": ".norm.",
    ".linear.": ".mlp.",
}


def rename_official(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The released state dict under this package's names.

    Raises:
        CheckpointError: If a key is not one of the released code's.
    """
    return {_rename(key): tensor for key, tensor in tensors.items()}


def _rename(key: str) -> str:
    for theirs, ours in _PREFIXES.items():
        if key.startswith(theirs):
            return ours + key.removeprefix(theirs)
    if key.startswith("discriminator."):
        for theirs, ours in _DISCRIMINATOR.items():
            key = key.replace(theirs, ours)
        return key
    raise CheckpointError(f"no released PatchGuard state dict: unexpected tensor {key!r}")


def patchguard_of(tensors: dict[str, Tensor], source: str, image_size: int | None = None) -> PatchGuard:
    """A released state dict as a detector with equal scores.

    The architecture is read from the tensors: number of discriminator layers, its width, the image size.

    Args:
        tensors: Under the names of the released code.
        source: Name of the file, for messages.
        image_size: Input side, pixels; by default from the number of patches.

    Raises:
        CheckpointError: If the tensors do not fit the released architecture.
    """
    try:
        tensors = rename_official(tensors)
    except CheckpointError as error:
        raise CheckpointError(f"{source} is {error}") from error
    positions = tensors.get("discriminator.positions")
    patch = tensors.get("features.vit.patch_embed.proj.weight")
    if positions is None or patch is None:
        raise CheckpointError(f"{source} lacks the discriminator or the patch embedding of PatchGuard")
    try:
        config = _architecture(tensors, positions, patch, image_size)
    except (ValueError, LookupError) as error:
        reason = error if isinstance(error, CheckpointError) else "its tensors have other names or shapes"
        raise CheckpointError(f"{source} is no released PatchGuard state dict: {reason}") from error
    return _filled(config, tensors, source)


def _architecture(
    tensors: dict[str, Tensor], positions: Tensor, patch: Tensor, image_size: int | None
) -> PatchGuardConfig:
    """The released configuration that tensors of these names and shapes belong to."""
    side = image_size or round(len(positions) ** 0.5) * patch.shape[-1]
    depth = 1 + max(int(key.split(".")[3]) for key in tensors if key.startswith("features.vit.blocks."))
    num_features = positions.shape[1] // patch.shape[0]
    return dataclasses.replace(
        PatchGuardConfig.published(image_size=side),
        backbone=_backbone(tensors, depth),
        feature_layers=tuple(range(depth - num_features + 1, depth + 1)),
        attention_layers=(),
        discriminator_layers=sum(key.endswith(".norm.weight") for key in tensors if key.startswith("discriminator.")),
        discriminator_hidden=len(tensors["discriminator.layers.0.mlp.0.bias"]),
    )


def _backbone(tensors: dict[str, Tensor], depth: int) -> str:
    """The timm name of the DINOv2 ViT whose width, depth and registers these tensors have."""
    width, patch = tensors["features.vit.patch_embed.proj.weight"].shape[0::3]
    sizes = {(384, 12): "small", (768, 12): "base", (1024, 24): "large", (1536, 40): "giant"}
    name = f"vit_{sizes.get((width, depth), 'unknown')}_patch{patch}"
    name += "_reg4_dinov2.lvd142m" if "features.vit.reg_token" in tensors else "_dinov2.lvd142m"
    known = [f"vit_{size}_patch14{reg}_dinov2.lvd142m" for size in sizes.values() for reg in ("", "_reg4")]
    try:
        return check_choice("backbone", name, known)
    except ValueError as error:
        raise CheckpointError(
            f"width {width} with {depth} blocks is no released PatchGuard backbone: {error}"
        ) from error


def _filled(config: PatchGuardConfig, tensors: dict[str, Tensor], source: str) -> PatchGuard:
    try:
        with torch.device("cpu"):
            detector = PatchGuard(config, load_weights=False)
        detector.load_state_dict(tensors)
    except (RuntimeError, ValueError) as error:
        raise CheckpointError(f"{source} does not fit PatchGuard: {str(error).splitlines()[-1].strip()}") from error
    return detector.eval()
