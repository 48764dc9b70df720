"""Image-level metrics of the coreset ablation."""

from adshift import evaluation, params, splits
from adshift.stage import run, write_json


def main() -> None:
    settings = params.load("dataset.name", "classes", "split.protocol", "ablation.ratios", "calibrate")
    dataset = settings.dataset.name
    on = splits.calibrated_on(settings.split.protocol)
    result = evaluation.ablation(dataset, settings.classes, settings.ablation.ratios, settings.calibrate, on)
    write_json(f"data/evaluation/{dataset}/ablation.json", result, checksum=True)


if __name__ == "__main__":
    run(main)
