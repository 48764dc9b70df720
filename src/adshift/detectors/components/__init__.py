"""Components that several detectors share."""
