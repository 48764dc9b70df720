"""The detectors, one file a method, and what they share."""
