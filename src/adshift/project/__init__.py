"""Parameters, checks, presets and stages of the DVC project."""
