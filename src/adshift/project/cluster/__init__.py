"""Stages on the workers of a Dask cluster, while DVC stays on one head machine."""
