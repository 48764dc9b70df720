"""The modules of the levers, by name. A module is imported when its lever is used."""

LEVERS = {
    "normalise": "adshift.evaluation.levers.normalise",
    "align": "adshift.evaluation.levers.align",
    "harden": "adshift.evaluation.levers.harden",
    "adapt": "adshift.evaluation.levers.adapt",
}
