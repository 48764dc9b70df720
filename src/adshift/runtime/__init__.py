"""Threads, seeding, checksums, files written whole, signals. Knows nothing of images."""
