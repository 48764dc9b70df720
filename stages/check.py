"""Check every parameter, the data set's layout and the weights before any work: a mistake costs a second.

What is checked is written where stages depend on it as files: sections that many items read, and the methods', taken in
two, what a fit needs and what only its scoring needs.
"""

import sys

from adshift.detectors import registry
from adshift.project import params
from adshift.project.checks import check
from adshift.project.paths import SETTINGS
from adshift.project.stage import run
from adshift.runtime.files import output, write_json


def main() -> None:
    checked = check()
    print(*checked.lines(), sep="\n", file=sys.stderr)
    settings = checked.settings
    write_json("data/checked.json", {"ok": True})  # always the same bytes: what follows is not stale because of it
    with output(SETTINGS) as folder:
        params.store(settings, folder)
        for method in settings.methods:
            for part, values in registry.halves(method, dict(getattr(settings, method))).items():
                write_json(folder / method / f"{part}.json", values, checksum=True)


if __name__ == "__main__":
    run(main)
