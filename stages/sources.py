"""Which source files each stage, detector, data set and backbone runs, their hashes, and versions of packages."""

from adshift.project import params, sources
from adshift.project.paths import SOURCES
from adshift.project.stage import run
from adshift.runtime.files import output


def main() -> None:
    methods = params.load("methods").methods
    with output(SOURCES) as folder:
        sources.write(folder, methods)


if __name__ == "__main__":
    run(main)
