"""What several detectors are built on."""
