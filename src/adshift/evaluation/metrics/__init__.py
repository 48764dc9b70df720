"""What a score is worth: `ranking` (shared core), `image`, `bootstrap`, `pixel`, `pro`,
`pimo`. Plain NumPy, no torch.

Degenerate inputs end as they do in the independent implementations: scikit-learn's AUROC (None where it says NaN, which
JSON has not), AUPRC and F1, and anomalib's AUPRO. A quotient 0/0 is 0. A score that is not finite is a ValueError.

                     AUROC   AUPRC   best F1   PRO
    only normal      None    0       0         0
    only anomalous   None    1       1         0
"""
