"""Where the object is: masks that keep pseudo-anomalies off the background."""

from robustad.foreground.cam import GradCAM
from robustad.foreground.classical import Decision, decide
from robustad.foreground.files import read_foreground, write_mask, write_masks
from robustad.foreground.methods import FOREGROUND
from robustad.foreground.sheet import contact_sheet, thumbnail_with_mask

__all__ = [
    "FOREGROUND",
    "Decision",
    "GradCAM",
    "contact_sheet",
    "decide",
    "read_foreground",
    "thumbnail_with_mask",
    "write_mask",
    "write_masks",
]
