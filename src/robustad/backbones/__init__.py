"""Networks under the detectors: timm ViTs with their features and attention, and the embedded EfficientNet-Lite0."""

from robustad.backbones.build import BACKBONES, SmallViT, build_vit, read_tensors
from robustad.backbones.embedded import EmbeddedNet, FoldedTrunk, embedded_weights_path, folded_stages, load_embedded
from robustad.backbones.reference import ReferenceStem
from robustad.backbones.vit import ViTFeatureExtractor, ViTFeatures

__all__ = [
    "BACKBONES",
    "EmbeddedNet",
    "FoldedTrunk",
    "ReferenceStem",
    "SmallViT",
    "ViTFeatureExtractor",
    "ViTFeatures",
    "build_vit",
    "embedded_weights_path",
    "folded_stages",
    "load_embedded",
    "read_tensors",
]
