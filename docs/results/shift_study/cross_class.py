"""One class's threshold on the other classes' normal images, unified models, from the experiments of a study.

Run in the clone in which the study ran; its experiments hold the tables:

    python docs/results/shift_study/cross_class.py OUT.csv studies/results/shift_study/shift_study.csv

Writes the false-positive rate of each pair of classes, mean and range over the seeds.
"""

import io
import sys

import dvc.api
import pandas as pd

TABLE = "metrics/tables/cross_class.csv"


def main() -> None:
    out, study = sys.argv[1:]
    experiments = pd.read_csv(study)[["experiment", "seed", "shift", "weight", "backbone"]].drop_duplicates()
    tables = [
        pd.read_csv(io.StringIO(dvc.api.read(TABLE, rev=one.experiment))).assign(**one._asdict())
        for one in experiments[experiments["shift"] == "whole"].itertuples(index=False)
    ]
    keys = ["backbone", "weight", "method", "threshold_of", "applied_to"]
    rates = pd.concat(tables).groupby(keys, sort=False).fpr.agg(["mean", "min", "max", "count"])
    rates.round(3).rename(columns={"count": "seeds"}).to_csv(out, lineterminator="\n")


if __name__ == "__main__":
    main()
