"""Networks under the detectors: ViTs with their features and attention, and the embedded EfficientNet-Lite0."""

from robustad.backbones.build import BACKBONES, SmallViT, build_vit, read_tensors
from robustad.backbones.cpu import fast_on_cpu
from robustad.backbones.embedded import EmbeddedNet, FoldedTrunk, embedded_weights_path, folded_stages, load_embedded
from robustad.backbones.plain import PlainViT
from robustad.backbones.reference import ReferenceStem
from robustad.backbones.start import DISCRIMINATOR, part_of, save_start, start_facts
from robustad.backbones.vit import ViTFeatureExtractor, ViTFeatures

__all__ = [
    "BACKBONES",
    "DISCRIMINATOR",
    "EmbeddedNet",
    "FoldedTrunk",
    "PlainViT",
    "ReferenceStem",
    "SmallViT",
    "ViTFeatureExtractor",
    "ViTFeatures",
    "build_vit",
    "embedded_weights_path",
    "fast_on_cpu",
    "folded_stages",
    "load_embedded",
    "part_of",
    "read_tensors",
    "save_start",
    "start_facts",
]
