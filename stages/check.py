"""Check every parameter, the data set's layout and the weights before any stage runs: a mistake costs a second."""

from adshift.checks import check
from adshift.stage import run, write_json


def main() -> None:
    check()
    write_json("data/checked.json", {"ok": True})  # always the same bytes: what follows is not stale because of it


if __name__ == "__main__":
    run(main)
