"""Detectors of anomalib under our attacks: differentiable where their score path is, black boxes where it is cut.

``module(x)`` of anomalib ends in min-max scaling, a threshold and a clamp, through which no gradient passes; attacks
therefore see ``module.model(module.pre_processor(x))``, the raw score that the post-processing only rescales.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robustad._devices import device_of
from robustad._extras import require
from robustad._quiet import quiet
from robustad.adapters._blur import separate_blurs
from robustad.adapters._gradients import default_dtype, gradient_fault, gradients_kept, thaw
from robustad.adapters._offline import no_network
from robustad.adapters.callables import CallableDetector
from robustad.backbones.embedded import ARCHITECTURE, load_embedded
from robustad.errors import CheckpointError

_CALLED = {"_instantiator", "_class_path"}
"""Options of a checkpoint whose values are names of what Lightning calls."""


class RawScore(nn.Module):
    """Images ``(N, 3, S, S)`` in [0, 1] to the raw scores ``(N,)`` and maps ``(N, S, S)`` of an anomalib module.

    Args:
        module: An ``AnomalibModule``; its model and its pre-processor are used as they are.
    """

    def __init__(self, module: Any) -> None:
        super().__init__()
        self.model, self.pre_processor = module.model, module.pre_processor

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Scores and maps; what a centre crop cut off from a map is filled up with the map's lowest value."""
        if torch.is_inference_mode_enabled():  # what a model caches on the way must stay usable for an attack
            with torch.inference_mode(False), torch.no_grad():
                return self._predicted(images.clone())
        keep = gradients_kept() if torch.is_grad_enabled() and images.requires_grad else nullcontext()
        with keep, default_dtype(images.dtype) if images.dtype == torch.float64 else nullcontext():
            return self._predicted(images)

    def _predicted(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        seen = images if self.pre_processor is None else self.pre_processor(images)
        found = self.model(seen)
        scores, maps = getattr(found, "pred_score", None), getattr(found, "anomaly_map", None)
        if maps is not None:
            maps = maps.reshape(len(images), 1, *maps.shape[-2:])
            scores = maps.amax(dim=(1, 2, 3)) if scores is None else scores  # as anomalib's post-processing does
        if scores is None:
            raise ValueError(f"{type(self.model).__name__} gives neither `pred_score` nor `anomaly_map`")
        return scores.reshape(len(images)), None if maps is None else self._spread(maps, images.shape[-1])[:, 0]

    def _spread(self, maps: Tensor, size: int) -> Tensor:
        """Maps ``(N, 1, h, w)`` over the whole images ``(N, 1, S, S)``, centre crops included."""
        cropped, resized = _sizes(self.pre_processor, size)
        if maps.shape[-2:] != cropped:
            maps = F.interpolate(maps, size=cropped, mode="bilinear", align_corners=False)
        if cropped != resized:
            top, left = ((whole - part) // 2 for whole, part in zip(resized, cropped, strict=True))
            bottom, right = resized[0] - cropped[0] - top, resized[1] - cropped[1] - left
            low = maps.amin(dim=(1, 2, 3), keepdim=True)
            maps = F.pad(maps - low, (left, right, top, bottom)) + low
        if maps.shape[-2:] != (size, size):
            maps = F.interpolate(maps, size=(size, size), mode="bilinear", align_corners=False)
        return maps


class _Scores(nn.Module):
    """Only the scores of a `RawScore`."""

    def __init__(self, raw: RawScore) -> None:
        super().__init__()
        self.raw = raw

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.raw(images)[0]
        return scores


def from_anomalib(
    module: Any, *, image_size: int | None = None, images: Tensor | None = None, model: str | None = None
) -> CallableDetector:
    """A trained model of anomalib as a detector.

    Whether its gradient may be used is measured (finite differences in float64), not assumed: models whose score path
    detaches, computes in NumPy or switches gradients off for good become black boxes, and say why.

    Args:
        module: An ``AnomalibModule``, trained; or a path, see `load_anomalib`. Put into eval mode.
        image_size: Side of the images that it gets, pixels; by default what its pre-processing resizes to. Another
            size is resized by the pre-processing, differentiably.
        images: Images ``(N, 3, S, S)`` in [0, 1] to measure the gradient at; a few; by default made ones.
        model: Name of the model, for a path that does not say it.

    Raises:
        MissingExtra: If anomalib is not installed.
        CheckpointError: If a path cannot be loaded.
        TypeError: If it is no ``AnomalibModule``.
        ValueError: If it has no pre-processing that says how large images are and ``image_size`` is not given, or it
            gives no scores.
    """
    if isinstance(module, str | Path):
        return load_anomalib(module, model=model, image_size=image_size, images=images)
    base = require("anomalib.models.components", "anomalib").AnomalibModule
    if not isinstance(module, base):
        raise TypeError(f"`module` must be an AnomalibModule, got {type(module).__name__}")
    size = image_size or _image_size(module)
    module.eval()
    thaw(module)
    separate_blurs(module)
    raw = RawScore(module).eval().to(memory_format=torch.channels_last)  # as convolutions on a CPU want it
    has_maps = _probe(raw, module.name, size)
    fault = gradient_fault(_Scores(raw), size, images=images)
    return CallableDetector(
        raw,
        size,
        differentiable=not fault,
        has_maps=has_maps,
        name=module.name.lower(),
        no_gradient=fault and f"anomalib's {module.name}: {fault}",
    )


def load_anomalib(
    path: str | Path, *, model: str | None = None, image_size: int | None = None, images: Tensor | None = None
) -> CallableDetector:
    """A Lightning checkpoint of anomalib as a detector.

    No pickle runs: the file is read with ``weights_only=True``, and of anomalib's own classes only those are allowed
    that the model names itself. Nothing is fetched: pretrained weights are in the checkpoint, and a model that fetches
    a network all the same while it is built (Dinomaly, AnomalyDINO, Fuvas and others) is refused.

    Args:
        path: The ``.ckpt`` file.
        model: Name of the model, e.g. ``Patchcore``; by default the folder on the path that anomalib named after it,
            or the name of the file.
        image_size: See `from_anomalib`.
        images: See `from_anomalib`.

    Raises:
        MissingExtra: If anomalib is not installed.
        CheckpointError: If the file is not there, is of an unknown model, or does not fit it.
    """
    known = _known_models()
    file = Path(path)
    if not file.is_file():
        raise CheckpointError(f"no anomalib checkpoint {file}")
    if file.suffix in (".pt", ".pth", ".pkl"):
        raise CheckpointError(
            f"{file} is a pickle, which may run code when read; give the Lightning checkpoint (.ckpt)"
        )
    kind = _model_class(file, model, known)
    hosts: list[str] = []
    try:
        with quiet(logging.ERROR), no_network() as hosts:
            module = _loaded(kind, file)
    except CheckpointError:
        raise
    except Exception as error:
        if hosts:
            raise CheckpointError(_would_fetch(kind.__name__, hosts[0])) from error
        raise CheckpointError(f"{file} cannot be loaded as anomalib's {kind.__name__}: {_reason(error)}") from error
    return from_anomalib(module, image_size=image_size, images=images)


def _loaded(kind: Any, path: Path) -> Any:
    """The module of a checkpoint; some are built for the image size, which only the pre-processing's options say."""
    safe = require("anomalib.utils.serialization", "anomalib").anomalib_safe_globals
    with safe(extra=kind.checkpoint_safe_globals()):
        stored = _stored(path)
    _check_plain(path, stored)
    accepted = inspect.signature(kind.__init__).parameters
    options: dict[str, Any] = {"pre_trained": False} if "pre_trained" in accepted else {}
    transform = (stored.get("anomalib_pre_processor_config") or {}).get("transform")
    if transform is not None and "pre_processor" in accepted:
        options["pre_processor"] = require("anomalib.pre_processing", "anomalib").PreProcessor()
        options["pre_processor"].load_checkpoint_config({"transform": transform})
    return kind.load_from_checkpoint(path, map_location="cpu", weights_only=True, **options)


def _check_plain(path: Path, stored: Mapping[str, Any]) -> None:
    """Lightning calls what these options name while it builds the module; before 2.6.6 without asking what it is."""
    for options in stored.values():
        named = _CALLED & set(options) if isinstance(options, Mapping) else set()
        if named:
            raise CheckpointError(
                f"{path} names code that is to be run when it is loaded ({', '.join(sorted(named))}), and is refused; "
                "save the checkpoint by anomalib's engine, not by LightningCLI"
            )


def _stored(path: Path) -> dict[str, Any]:
    """What a Lightning checkpoint holds."""
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except (EOFError, IndexError, KeyError) as error:  # what garbage comes to
        raise CheckpointError(f"{path} is no checkpoint of torch, or is damaged; give the .ckpt file") from error
    if not isinstance(stored, dict) or "state_dict" not in stored:
        raise CheckpointError(
            f"{path} is no Lightning checkpoint: it has no `state_dict`. Weights alone go into a module of anomalib "
            "(`module.model.load_state_dict`), and that into `from_anomalib`"
        )
    if "pytorch-lightning_version" not in stored:
        raise CheckpointError(f"{path} was not written by Lightning; give the .ckpt file of anomalib's engine")
    return stored


def _would_fetch(model: str, host: str) -> str:
    return (
        f"anomalib's {model} fetches a network from {host} while it is built, and robustad fetches nothing: build the "
        "module yourself, load the checkpoint into it and pass it to `from_anomalib`"
    )


def embed_weights(module: Any) -> Any:
    """Give an untrained anomalib module with the backbone ``tf_efficientnet_lite0`` the embedded ImageNet weights.

    Build it with ``pre_trained=False``; they expect pixels normalised by mean 0.5 and standard deviation 0.5.

    Args:
        module: An ``AnomalibModule`` whose model has a ``feature_extractor`` out of timm.

    Returns:
        The same module.

    Raises:
        MissingExtra: If the package with the weights is not installed.
        ValueError: If its feature extractor is another network.
    """
    extractor: Any = getattr(getattr(module.model, "feature_extractor", None), "feature_extractor", nn.Identity())
    wanted = extractor.state_dict()
    stored = load_embedded().net.state_dict()
    if not wanted or any(name not in stored or stored[name].shape != like.shape for name, like in wanted.items()):
        raise ValueError(f"the feature extractor of {module.name} must be timm's {ARCHITECTURE}")
    extractor.load_state_dict({name: stored[name] for name in wanted})
    return module


def _known_models() -> dict[str, Any]:
    """Image models of anomalib by their names in small letters."""
    models = require("anomalib.models", "anomalib")
    base = require("anomalib.models.components", "anomalib").AnomalibModule
    found = (getattr(models, name) for name in models.__all__)
    return {kind.__name__.lower(): kind for kind in found if inspect.isclass(kind) and issubclass(kind, base)}


def _model_class(path: Path, model: str | None, known: dict[str, Any]) -> Any:
    """The file itself does not say whose it is: its place does, or the user."""
    if model is not None:
        kind = known.get(model.replace("_", "").lower())
        if kind is None:
            names = ", ".join(sorted(item.__name__ for item in known.values()))
            raise CheckpointError(f"anomalib has no model {model!r} that takes images; known: {names}")
        return kind
    for part in (path.stem, *reversed(path.resolve().parts[:-1])):
        if part.replace("_", "").lower() in known:
            return known[part.replace("_", "").lower()]
    raise CheckpointError(
        f"{path} does not say which model of anomalib it is; write anomalib:MODEL={path}, e.g. MODEL = Patchcore"
    )


def _image_size(module: Any) -> int:
    """What the pre-processing resizes to; of an oblong the longer side."""
    sizes = [step.size for step in _steps(module.pre_processor) if type(step).__name__ == "Resize"]
    if not sizes or sizes[0] is None:
        raise ValueError(f"the pre-processing of {module.name} resizes nothing; pass `image_size`")
    return int(max(sizes[0]) if not isinstance(sizes[0], int) else sizes[0])


def _sizes(pre_processor: Any, size: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Height and width of an image of ``size`` after the pre-processing, and before its centre crop."""
    whole = cropped = (size, size)
    for step in _steps(pre_processor):
        if type(step).__name__ == "Resize":
            sides = [step.size] if isinstance(step.size, int) else list(step.size)
            whole = cropped = (int(sides[0]), int(sides[-1]))
        elif "CenterCrop" in type(step).__name__:
            sides = [step.size] if isinstance(step.size, int) else list(step.size)
            cropped = (int(sides[0]), int(sides[-1]))
    return cropped, whole


def _steps(pre_processor: Any) -> list[Any]:
    transform = getattr(pre_processor, "transform", None)
    return list(getattr(transform, "transforms", [] if transform is None else [transform]))


def _probe(raw: RawScore, name: str, size: int) -> bool:
    """Whether there are maps."""
    try:
        with torch.no_grad():
            return raw(torch.full((1, 3, size, size), 0.5, device=device_of(raw)))[1] is not None
    except (RuntimeError, ValueError, TypeError, IndexError, AttributeError) as error:
        raise ValueError(
            f"anomalib's {name} scores no image of {size} pixels: {_reason(error)}; is it trained?"
        ) from error


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = " ".join(lines[:2]) or type(error).__name__
    return text if len(text) <= 200 else f"{text[:197]}..."
