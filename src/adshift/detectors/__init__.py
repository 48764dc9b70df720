"""The detectors, one file per method, and their shared components."""
