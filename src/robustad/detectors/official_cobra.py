"""Released COBRA weights: the state dict of the authors' code, under our names, without loss."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from robustad.backbones.resnet import RESNETS
from robustad.detectors.cobra import Cobra, CobraConfig
from robustad.errors import CheckpointError

_HEADS = {"projection.": "simclr_layer.", "classifier.": "shift_cls_layer.", "backbone.": ""}  # ours: theirs
_UNUSED = ("linear.", "joint_distribution_layer.")  # heads of the released network that no score reads
_MEMORY = ("axes", "projection_weights", "logit_weights")  # ours alone: the released code derives them for each test
_STEM, _CLASSIFIER = "conv1.weight", "shift_cls_layer.weight"


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Network:
    """A row of the table of released networks.

    Attributes:
        shortcut: Their name of a block's shortcut.
        image_size: Input side that the network was made for, pixels.
        crop: Whether views are cropped in the released setting of this network.
        transforms: Weights of the transforms in that setting; a state dict does not say them.
    """

    shortcut: str
    image_size: int
    crop: bool
    transforms: dict[str, float]


# the two settings that were released: one-class CIFAR-10, and MVTec AD
_NETWORKS = {
    "resnet18": _Network(shortcut="shortcut", image_size=32, crop=True, transforms={"rotation": 1.0}),
    "resnet18_imagenet": _Network(shortcut="downsample", image_size=224, crop=False, transforms={"scar": 1.0}),
}


def cobra_of(tensors: dict[str, Tensor], source: str, image_size: int | None = None) -> Cobra:
    """A released state dict as a detector, whose memory of normal images is yet to be filled.

    Width, number of blocks and backbone are read from the tensors. Transforms and crop are those of the released
    setting of that backbone.

    Args:
        tensors: Under the names of the released code.
        source: Name of the file, for messages.
        image_size: Input side, pixels; by default the one that the network was made for.

    Raises:
        CheckpointError: If a tensor is missing, foreign, or of a shape that does not fit.
    """
    for key, ndim in ((_STEM, 4), (_CLASSIFIER, 2)):
        if key not in tensors or tensors[key].ndim != ndim:
            raise CheckpointError(f"{source} is no released COBRA state dict: {_found(key, tensors)}")
    try:
        config = _architecture(tensors, image_size)
        with torch.device("meta"):  # shapes without memory: a file may claim any width
            shapes = {key: tuple(tensor.shape) for key, tensor in Cobra(config).state_dict().items()}
    except ValueError as error:
        raise CheckpointError(f"{source} is no released COBRA state dict: {error}") from error
    renamed = _renamed(tensors, shapes, _NETWORKS[config.backbone].shortcut, source)
    with torch.random.fork_rng(devices=[]):  # random weights that are replaced at once
        detector = Cobra(config)
    detector.load_state_dict({key: tensor for key, tensor in detector.state_dict().items() if key in _MEMORY} | renamed)
    return detector.eval()


def _architecture(tensors: dict[str, Tensor], image_size: int | None) -> CobraConfig:
    """The released configuration that tensors of these shapes belong to."""
    kernel = tensors[_STEM].shape[-1]
    backbones = {stem.kernel_size: name for name, stem in RESNETS.items()}
    if kernel not in backbones:
        raise ValueError(f"its first convolution is {kernel} pixels wide, not {' or '.join(map(str, backbones))}")
    network = _NETWORKS[backbones[kernel]]
    return CobraConfig(
        image_size=network.image_size if image_size is None else image_size,
        backbone=backbones[kernel],
        width=len(tensors[_STEM]),
        blocks=(network.transforms,) * (len(tensors[_CLASSIFIER]) - 1),
        crop=network.crop,
    )


def _renamed(
    tensors: dict[str, Tensor], shapes: dict[str, tuple[int, ...]], shortcut: str, source: str
) -> dict[str, Tensor]:
    """The tensors under our names, each present and of the shape that we know; nothing else is there."""
    names = {_their_name(key, shortcut): key for key in shapes if key not in _MEMORY}
    for key in tensors:
        if key not in names and not key.startswith(_UNUSED):
            raise CheckpointError(f"{source} is no released COBRA state dict: unexpected tensor {key!r}")
    for theirs, ours in names.items():
        if theirs not in tensors or tuple(tensors[theirs].shape) != shapes[ours]:
            raise CheckpointError(
                f"{source} does not fit COBRA: {_found(theirs, tensors)}, expected shape {shapes[ours]}"
            )
    return {ours: tensors[theirs] for theirs, ours in names.items()}


def _their_name(key: str, shortcut: str) -> str:
    ours = next(prefix for prefix in _HEADS if key.startswith(prefix))
    return (_HEADS[ours] + key.removeprefix(ours)).replace("downsample", shortcut)


def _found(key: str, tensors: dict[str, Tensor]) -> str:
    return f"tensor {key!r} has shape {tuple(tensors[key].shape)}" if key in tensors else f"it lacks tensor {key!r}"
