"""Images, manifests, splits, data sets and the shifted domain."""
