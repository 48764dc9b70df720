"""Scenarios, thresholds, metrics and their intervals."""
