"""robustad: anomaly detection and localization that holds under attack."""

__version__ = "0.1.0"
