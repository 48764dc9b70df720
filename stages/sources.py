"""Which source files each stage, detector and data set runs, and their hashes."""

from pathlib import Path

from adshift import sources
from adshift.stage import output, run


def main() -> None:
    with output(Path("data/sources")) as folder:
        sources.write(folder)


if __name__ == "__main__":
    run(main)
