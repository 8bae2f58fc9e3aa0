"""Released weights: a wrong file is one clear line; a small released model comes through without loss."""

from __future__ import annotations

import pytest
import torch

from robustad.detectors import load_official
from robustad.errors import CheckpointError

PATCH = "feature_extractor.pretrained_model.patch_embed.proj.weight"
POSITIONS = "discriminator.positional_encodings"
BLOCK = "feature_extractor.pretrained_model.blocks.11.norm1.weight"
HIDDEN = "discriminator.transformer_encoder.0.linear.0.bias"
GOOD = {
    POSITIONS: torch.zeros(4, 384),
    PATCH: torch.zeros(384, 3, 14, 14),
    BLOCK: torch.zeros(384),
    HIDDEN: torch.zeros(8),
    "discriminator.transformer_encoder.0.layer_norm_1.weight": torch.zeros(384),
}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({}, "does not fit PatchGuard"),
        ({POSITIONS: None}, "lacks the discriminator"),
        ({PATCH: None}, "lacks the discriminator or the patch embedding"),
        ({"classifier.weight": torch.zeros(1)}, r"unexpected tensor 'classifier\.weight'"),
        ({POSITIONS: torch.zeros(4)}, "is no released PatchGuard state dict"),
        ({PATCH: torch.zeros(3)}, "is no released PatchGuard state dict"),
        ({BLOCK: None}, "is no released PatchGuard state dict"),
        ({HIDDEN: None}, "is no released PatchGuard state dict"),
        ({PATCH: torch.zeros(100, 3, 14, 14)}, "width 100 with 12 blocks"),
        ({POSITIONS: torch.zeros(4, 768)}, "does not fit PatchGuard"),
    ],
)
def test_wrong_tensors(tmp_path, change, text):
    path = tmp_path / "weights.pth"
    torch.save({key: value for key, value in {**GOOD, **change}.items() if value is not None}, path)
    with pytest.raises(CheckpointError, match=text) as caught:
        load_official(path)
    assert "\n" not in str(caught.value)


def test_wrong_files(tmp_path):
    path = tmp_path / "weights.pth"
    with pytest.raises(CheckpointError, match="no weight file"):
        load_official(path)
    path.write_bytes(b"nonsense")
    with pytest.raises(CheckpointError, match="cannot read"):
        load_official(path)
