"""Model directories and their use away from the study."""
