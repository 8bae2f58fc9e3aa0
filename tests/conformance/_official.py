"""The released architectures with formula weights, as the conformance vectors define them."""

from __future__ import annotations

import json
import os
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from timm import create_model
from timm.models.vision_transformer import VisionTransformer

from robustad.detectors import PatchGuard, PatchGuardConfig
from robustad.detectors.official_patchguard import rename_official

SHARED = Path(os.environ.get("ROBUSTAD_SHARED", Path(__file__).parents[2].parent / "shared"))
VECTORS = SHARED / "vectors" / "patchguard"
needs_vectors = pytest.mark.skipif(not VECTORS.is_dir(), reason="the conformance vectors are not on this machine")
SMALL = ("plain", "dino", "reg")


def formula_tensors(config: str) -> dict[str, torch.Tensor]:
    """Every tensor of the released state dict, drawn from the hash of its key."""
    meta = json.loads((VECTORS / f"state_dict_{config}.json").read_text())
    tensors = {}
    for key in meta["order"]:
        shape = meta["keys"][key]["shape"]
        noise = np.random.RandomState(zlib.crc32(key.encode())).standard_normal(shape)
        weight = torch.from_numpy(_scaled(key, noise, shape).astype(np.float32))
        assert weight.flatten()[0].item() == pytest.approx(meta["keys"][key]["first"], abs=1e-7)
        tensors[key] = weight
    return tensors


def _scaled(key: str, noise: np.ndarray, shape: list[int]) -> np.ndarray:
    if key.endswith(("cls_token", "reg_token", "pos_embed", "positional_encodings")):
        return 0.5 * noise
    if key.endswith(".gamma"):
        return 0.5 + 0.1 * noise
    if key.endswith("bias"):
        return 0.1 * noise
    if len(shape) == 1:
        return 1.0 + 0.1 * noise
    gain = 2.0 if "qkv" in key or "in_proj" in key else 1.0
    return gain * noise / np.sqrt(np.prod(shape[1:]))


def build_vit(config: str, options: dict) -> VisionTransformer:
    size = options["image_size"]
    if config == "plain":
        return create_model("test_vit", img_size=size, num_classes=0)
    registers = {"reg_tokens": 4, "no_embed_class": True} if config == "reg" else {}
    return VisionTransformer(
        img_size=size, patch_size=14, embed_dim=48, depth=4, num_heads=3, init_values=1e-5, num_classes=0, **registers
    )


def official(config: str, dtype: torch.dtype = torch.float64) -> PatchGuard:
    """The detector with formula weights, in eval mode."""
    options = json.loads((VECTORS / f"state_dict_{config}.json").read_text())["config"]
    own = PatchGuardConfig(
        image_size=options["image_size"],
        backbone=options["hf_path"],
        feature_layers=tuple(options["feature_layers"]),
        attention_layers=tuple(options["reg_layers"]),
        discriminator_layers=options["dsc_layers"],
        discriminator_heads=options["dsc_heads"],
        discriminator_hidden=options["hidden_dim"],
        dropout=0.2,
        top_k=3,
        sigma=6.0,
        radius=7,
    )
    vit = None if config == "default" else build_vit(config, options)
    detector = PatchGuard(own, vit=vit)
    detector.load_state_dict(rename_official(formula_tensors(config)))
    return detector.to(dtype).eval()


def images(array: np.ndarray, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.from_numpy(array).double().div(255).permute(0, 3, 1, 2).contiguous().to(dtype)


def load(name: str) -> dict[str, np.ndarray]:
    with np.load(VECTORS / f"{name}.npz", allow_pickle=False) as arrays:
        return dict(arrays)
