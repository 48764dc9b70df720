"""Image-level metrics of every ratio of the coreset ablation, at thresholds from its own validation scores."""

from adshift.data import split_file
from adshift.evaluation import image_level
from adshift.project import params
from adshift.project.paths import evaluation_path
from adshift.project.stage import run
from adshift.runtime.files import write_json


def main() -> None:
    settings = params.load("dataset.name", "classes", "split.protocol", "calibrate", "ablation.ratios")
    dataset, on = settings.dataset.name, split_file.calibrated_on(settings.split.protocol)
    ablation = image_level.ablation(dataset, settings.classes, settings.ablation.ratios, settings.calibrate, on)
    write_json(evaluation_path(dataset) / "ablation.json", ablation, checksum=True)


if __name__ == "__main__":
    run(main)
