"""Certificates: what no perturbation within a radius can do to a smoothed score."""

from robustad.certify.bounds import Certificate, certified_auroc, linf_as_l2, order_statistics, shifted_quantiles
from robustad.certify.smoothed import SmoothedDetector

__all__ = ["Certificate", "SmoothedDetector", "certified_auroc", "linf_as_l2", "order_statistics", "shifted_quantiles"]
