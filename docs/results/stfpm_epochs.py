"""How far image AUROC of STFPM swings from epoch to epoch: anomalib's loss and optimizer, our images and scores.

    python docs/results/stfpm_epochs.py docs/results/published/stfpm_epochs.csv --root DATA/mvtec_screw \
        --name screw --weights WEIGHTS/resnet18_imagenet_layers1-3.safetensors --draws 2

The student, its input and the teacher's maps are those of `stfpm`; steps are anomalib's (SGD of 0.4 on the loss summed
over a batch of 8, momentum 0.9, decay 0.001). Test images are scored after each epoch, with the maps multiplied at the
size of the input as anomalib does. Rows are appended as they are made.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from embedded import append
from published_draws import embedded, section

from adshift.detectors import registry
from adshift.detectors.components import training
from adshift.detectors.components.students import distances
from adshift.evaluation.metrics.ranking import Ranked
from adshift.project import params

BATCH = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--root", required=True)
    parser.add_argument("--name", required=True, help="class")
    parser.add_argument("--weights", required=True)
    parser.add_argument("--draws", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=10)
    fixed = {"backbone": "resnet18", "mean": None, "pad_type": None, "resize": 256, "crop": 224, "tiles": None,
             "coreset": 0.1, "learning_rate": None}  # fmt: skip
    args = parser.parse_args(namespace=argparse.Namespace(**fixed))
    settings = params.load_all()
    with tempfile.TemporaryDirectory() as folder:
        features = embedded(settings, args, Path(folder))
        train, test = [features.select([name for name in features.names if name.startswith(part)])
                       for part in ("train/", "test/")]  # fmt: skip
        halves = registry.halves("stfpm", section(settings, args, "stfpm"))
        detector: Any = registry.detector_class("stfpm")(registry.schemas("stfpm")["fit"].of(halves["fit"]))
        detector.spec = dict(features.spec)
        for draw in range(args.draws):
            for row in epochs(detector, train, test, draw, args.epochs):
                append(args.out, {"class": args.name, "draw": draw, **row})


def epochs(detector: Any, train: Any, test: Any, draw: int, count: int) -> Any:
    """Train a student; after each epoch its mean loss per image and the image AUROC on test images."""
    import torch
    from anomalib.models.image.stfpm.loss import STFPMLoss

    generator, loss = np.random.default_rng(draw), STFPMLoss()
    with training.reproducible(generator):
        student = detector._untrained()
        optimizer = torch.optim.SGD(student.parameters(), 0.4, momentum=0.9, weight_decay=1e-3)
        for epoch in range(1, count + 1):
            student.train()
            order, total = generator.permutation(len(train)), 0.0
            for start in range(0, len(order), BATCH):
                part = train.take(order[start : start + BATCH].tolist())
                teacher, learned = detector.teacher_maps(part), student(detector.student_input(part))
                optimizer.zero_grad()
                value = loss(dict(enumerate(teacher)), dict(enumerate(learned)))
                value.backward()
                optimizer.step()
                total += float(value.detach())
            yield {"epoch": epoch, "loss": round(total / len(train), 4), "image_auroc": auroc(detector, student, test)}


def auroc(detector: Any, student: Any, test: Any) -> float:
    """Image AUROC of a student."""
    import torch
    from torch.nn.functional import interpolate

    student.eval()
    bad, scores = np.array([not name.startswith("test/good/") for name in test.names]), []
    with torch.inference_mode():
        for start in range(0, len(test), BATCH):
            part = test[start : start + BATCH]
            layers = distances(detector.teacher_maps(part), student(detector.student_input(part)))
            side = part.spec["size"]
            maps = [interpolate(one[:, None], (side, side), mode="bilinear", align_corners=False) for one in layers]
            scores += torch.stack(maps).prod(0).amax((1, 2, 3)).tolist()
    return round(float(Ranked.of(np.array(scores), bad).auroc() or 0), 4)


if __name__ == "__main__":
    main()
