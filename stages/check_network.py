"""Check that the network can be built, layers and weights, before images are shifted and embedded with it."""

from adshift import params
from adshift.checks import check_network
from adshift.stage import run, write_json


def main() -> None:
    check_network(params.load("features").features)
    write_json("data/checked_network.json", {"ok": True})  # always the same bytes, as check's


if __name__ == "__main__":
    run(main)
