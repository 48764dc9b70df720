"""A method's section of params.yaml in two: what its fit needs and what only its scoring needs."""

import argparse

from adshift import methods, params
from adshift.stage import run, write_json


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--method", required=True)
    method = parser.parse_args().method
    section = dict(getattr(params.load(method), method))
    for part, values in methods.halves(method, section).items():
        write_json(methods.settings_path(method, part), values, checksum=True)


if __name__ == "__main__":
    run(main)
