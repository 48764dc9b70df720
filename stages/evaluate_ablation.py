"""Image-level metrics of the coreset ablation."""

from adshift import evaluation, params
from adshift.stage import run, write_json


def main() -> None:
    settings = params.load("dataset.name", "classes", "ablation.ratios", "calibrate")
    dataset = settings.dataset.name
    result = evaluation.ablation(dataset, settings.classes, settings.ablation.ratios, settings.calibrate)
    write_json(f"data/evaluation/{dataset}/ablation.json", result)


if __name__ == "__main__":
    run(main)
