"""Released COBRA weights without the vectors: a made file comes through without loss; a wrong one is one clear line."""

from __future__ import annotations

import pytest
import torch

from robustad.detectors import Cobra, CobraConfig, load_checkpoint, load_official, save_checkpoint
from robustad.errors import CheckpointError

NETWORKS = [("resnet18", "shortcut", 32, 4), ("resnet18_imagenet", "downsample", 64, 2)]


def made(backbone="resnet18", image_size=32, blocks=4, width=4):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        detector = Cobra(
            CobraConfig(
                image_size=image_size, backbone=backbone, width=width, blocks=({"rotation": 1.0},) * (blocks - 1)
            )
        )
        for name, tensor in detector.state_dict().items():
            if name.startswith("backbone") and tensor.is_floating_point():  # batch statistics that a mix-up would show
                tensor.add_(0.1 * torch.rand(tensor.shape))
    return detector.eval()


def released(detector, shortcut="shortcut"):
    """The detector's tensors under the names of the released code, its unused heads among them."""
    dim, blocks = detector.classifier.weight.shape[::-1]
    tensors = {"linear.weight": torch.rand(10, dim), "joint_distribution_layer.bias": torch.rand(10 * blocks)}
    for name, tensor in detector.state_dict().items():
        if name.startswith("backbone."):
            tensors[name.removeprefix("backbone.").replace("downsample", shortcut)] = tensor
        elif name.startswith("projection."):
            tensors[name.replace("projection.", "simclr_layer.")] = tensor
        elif name.startswith("classifier."):
            tensors[name.replace("classifier.", "shift_cls_layer.")] = tensor
    return tensors


def images(size, count=2):
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(count)).double()


@pytest.mark.parametrize(("backbone", "shortcut", "size", "blocks"), NETWORKS)
@pytest.mark.parametrize("form", ["plain", "parallel", "nested"])
def test_a_made_file_comes_through_without_loss(tmp_path, backbone, shortcut, size, blocks, form):
    detector = made(backbone, size, blocks)
    tensors = released(detector, shortcut)
    if form == "parallel":
        tensors = {f"module.{key}": tensor for key, tensor in tensors.items()}
    torch.save({"state_dict": tensors} if form == "nested" else tensors, tmp_path / "cobra.pth")
    loaded = load_official(tmp_path / "cobra.pth", image_size=size)
    config = loaded.config
    assert (config.backbone, config.width, config.num_blocks, config.image_size) == (backbone, 4, blocks, size)
    assert not loaded.training and config.num_axes == 0
    own = detector.state_dict()
    assert own.keys() == loaded.state_dict().keys()
    assert all(torch.equal(own[key], value) for key, value in loaded.state_dict().items())
    with torch.no_grad():
        ours, theirs = loaded.double().features(images(size)), detector.double().features(images(size))
    assert torch.equal(ours.projections, theirs.projections) and torch.equal(ours.logits, theirs.logits)


@pytest.mark.parametrize(
    ("backbone", "shortcut", "size", "crop"), [(*NETWORKS[0][:3], True), (*NETWORKS[1][:2], 224, False)]
)
def test_without_a_size_it_is_the_one_of_the_network(tmp_path, backbone, shortcut, size, crop):
    torch.save(released(made(backbone), shortcut), tmp_path / "cobra.pth")
    config = load_official(tmp_path / "cobra.pth").config
    assert (config.image_size, config.crop) == (size, crop)


def test_an_imported_detector_that_remembers_is_a_checkpoint_like_any_other(tmp_path):
    torch.save(released(made()), tmp_path / "cobra.pth")
    detector = load_official(tmp_path / "cobra.pth")
    detector.complete([images(32, 3).float()])
    again = load_checkpoint(save_checkpoint(tmp_path / "run", detector)).detector
    with torch.no_grad():
        assert torch.equal(again(images(32).float()).scores, detector(images(32).float()).scores)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"layer5.0.conv1.weight": torch.zeros(1)}, r"unexpected tensor 'layer5\.0\.conv1\.weight'"),
        ({"layer2.0.downsample.0.weight": torch.zeros(8, 4, 1, 1)}, "unexpected tensor 'layer2.0.downsample"),
        ({"backbone.conv1.weight": torch.zeros(1)}, "unexpected tensor 'backbone.conv1"),
        ({"axes": torch.zeros(1)}, "unexpected tensor 'axes'"),
        ({"layer3.1.bn2.running_var": None}, r"lacks tensor 'layer3\.1\.bn2\.running_var', expected shape \(16,\)"),
        ({"conv1.weight": None}, r"lacks tensor 'conv1\.weight'"),
        ({"shift_cls_layer.weight": None}, r"lacks tensor 'shift_cls_layer\.weight'"),
        (
            {"simclr_layer.0.weight": torch.zeros(3, 3)},
            r"'simclr_layer\.0\.weight' has shape \(3, 3\), expected shape \(32, 32\)",
        ),
        (
            {"shift_cls_layer.weight": torch.zeros(3, 32)},
            r"'shift_cls_layer\.bias' has shape \(4,\), expected shape \(3,\)",
        ),
        ({"shift_cls_layer.weight": torch.zeros(1, 32)}, "at least one pseudo-anomalous block"),
        ({"shift_cls_layer.weight": torch.zeros(4)}, r"'shift_cls_layer\.weight' has shape \(4,\)"),
        ({"conv1.weight": torch.zeros(4, 3, 5, 5)}, "first convolution is 5 pixels wide, not 3 or 7"),
        ({"conv1.weight": torch.zeros(0, 3, 3, 3)}, "`width` must be at least 1"),
        ({"conv1.weight": torch.zeros(1_000_000, 3, 3, 3)}, "does not fit COBRA"),  # at once, without petabytes
        ({"bn1.weight": torch.tensor([1.0, float("nan"), 1.0, 1.0])}, r"tensor 'bn1\.weight' holds NaN"),
        ({"linear.weight": torch.tensor([float("inf")])}, r"tensor 'linear\.weight' holds NaN or infinite"),
    ],
)
def test_wrong_tensors(tmp_path, change, text):
    tensors = {key: value for key, value in {**released(made()), **change}.items() if value is not None}
    torch.save(tensors, tmp_path / "cobra.pth")
    with pytest.raises(CheckpointError, match=text) as caught:
        load_official(tmp_path / "cobra.pth")
    assert "\n" not in str(caught.value) and "cobra.pth" in str(caught.value)


def test_a_size_that_is_too_small(tmp_path):
    torch.save(released(made()), tmp_path / "cobra.pth")
    with pytest.raises(CheckpointError, match=r"cobra\.pth.*`image_size` must be at least 32 for COBRA, got 16"):
        load_official(tmp_path / "cobra.pth", image_size=16)


@pytest.mark.parametrize("tensors", [{}, {"fc.weight": torch.zeros(2, 2)}])
def test_a_file_of_neither_method_names_both(tmp_path, tensors):
    torch.save(tensors, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=r"other\.pth .*PatchGuard \(.*COBRA \(simclr_layer") as caught:
        load_official(tmp_path / "other.pth")
    assert "\n" not in str(caught.value)


def test_the_global_random_state_is_left_alone(tmp_path):
    torch.save(released(made()), tmp_path / "cobra.pth")
    before = torch.random.get_rng_state()
    load_official(tmp_path / "cobra.pth")
    assert torch.equal(before, torch.random.get_rng_state())
