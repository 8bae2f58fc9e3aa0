"""Other people's detectors for our bench, and our detectors for other people's tools."""

from robustad.adapters.callables import CallableDetector, from_callable
from robustad.adapters.classifier import TwoLogits, as_classifier

__all__ = ["CallableDetector", "TwoLogits", "as_classifier", "from_callable"]
