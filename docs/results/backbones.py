"""What each backbone costs, as backbones.csv and backbones.md beside this script. Needs no weights: they are random.

    python docs/results/backbones.py        # a minute; --threads and --repeats as told by --help

Counts are exact; times are those of the machine that the Markdown names.
"""

import argparse
import csv
import os
import platform
from importlib.metadata import version
from pathlib import Path

from adshift.features.backbones.cost import WARM_UP, profiles, row

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=30)
    args = parser.parse_args()
    rows = [row(profile) for profile in profiles(threads=args.threads, repeats=args.repeats)]
    with (HERE / "backbones.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
    (HERE / "backbones.md").write_text(page(rows, args.threads, args.repeats), encoding="utf-8")


def page(rows: list[dict[str, str | int | float]], threads: int, repeats: int) -> str:
    """The table for people, with where it comes from."""
    lines = [
        "# What backbones cost",
        "",
        f"`python docs/results/backbones.py --threads {threads} --repeats {repeats}`: {machine()}. "
        f"Python {platform.python_version()}, torch {version('torch')}, timm {version('timm')}. Random weights.",
        "",
        "First up to the deepest layer kept, which is what runs here, then the whole network with its classifier. "
        f"Milliseconds: the cut network, batch 1, threads: {threads}, median (and fastest) of {repeats} "
        f"forward passes after {WARM_UP}. MB: 10^6 bytes of the float32 state dict.",
        "",
        "| backbone | pixels | layers | maps | params, M | multiply-adds, M | MB | ms |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for one in rows:
        pairs = [
            f"{int(one['cut_' + name]) / 1e6:.{digits}f} / {int(one[name]) / 1e6:.{digits}f}"
            for name, digits in (("parameters", 2), ("multiply_adds", 1), ("bytes", 1))
        ]
        cells = [one["backbone"], one["size"], one["layers"], one["maps"], *pairs,
                 f"{one['cut_milliseconds']} ({one['cut_milliseconds_fastest']})"]  # fmt: skip
        lines.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def machine() -> str:
    """Processor and cores."""
    names = [line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
             if line.startswith("model name")]  # fmt: skip
    return f"{names[0] if names else platform.machine()}, {len(os.sched_getaffinity(0))} cores, shared, no GPU"


if __name__ == "__main__":
    main()
