"""The shifted domain: synthetic (MVTec-Shift) or as it was recorded."""
