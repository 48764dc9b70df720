"""Faults injected into real runs of the pipeline: `python tests/faults/run.py`."""
