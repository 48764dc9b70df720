"""Metrics of scores and anomaly maps. Plain NumPy, no torch.

`ranking` is the shared core of `image`, `pixel`, `pro` and `pimo`; `resampled` serves the bootstrap.

Degenerate inputs give what the independent implementations give: scikit-learn's AUROC (None for its NaN, which JSON
does not have), AUPRC and F1, and anomalib's AUPRO. A quotient 0/0 is 0. A score that is not finite is a ValueError.

                     AUROC   AUPRC   best F1   PRO
    only normal      None    0       0         0
    only anomalous   None    1       1         0
"""
