"""adshift: industrial visual anomaly detection under domain shift, as a DVC pipeline."""

__version__ = "0.1.0"
