"""Networks for small devices, with their authors' checkpoints."""
