"""Decisions: thresholds on scores with a known rate of false alarms. Pure functions of scores."""

from robustad.calibration.conformal import METHOD, conformal_calibration, false_alarm_bound, images_needed

__all__ = ["METHOD", "conformal_calibration", "false_alarm_bound", "images_needed"]
