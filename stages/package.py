"""Model directories of all methods, complete: model, thresholds, scoring, reference, model card."""

import sys
from pathlib import Path

from adshift.deploy import package
from adshift.project import params
from adshift.project.stage import run
from adshift.runtime.files import output
from adshift.runtime.parallel import one_thread_below


def main() -> None:
    settings = params.load("seed", "dataset.name", "classes", "methods", "split", "shift.kind", "calibrate",
                           "graph.scenarios")  # fmt: skip
    # Its matrices are small: threads would take longer to meet than to multiply.
    with one_thread_below(), output(Path("models") / settings.dataset.name) as folder:
        for method in settings.methods:
            package.write(folder / method, method, settings)
        for warning in package.near_duplicates(settings.dataset.name, settings.classes, settings.shift.kind):
            print(f"warning: {warning}", file=sys.stderr)


if __name__ == "__main__":
    run(main)
