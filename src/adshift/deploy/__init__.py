"""Model directories and their use without the pipeline."""
