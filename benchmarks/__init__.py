"""Claims about speed, each measured against what it is compared with: ``python -m benchmarks``."""
