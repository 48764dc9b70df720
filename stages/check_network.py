"""Check that the network can be built, layers and weights, before images are shifted and embedded with it."""

from adshift.project import params
from adshift.project.checks import check_network, network_record
from adshift.project.paths import NETWORK
from adshift.project.stage import run
from adshift.runtime.files import write_json


def main() -> None:
    settings = params.load("features").features
    check_network(settings)
    write_json(NETWORK, network_record(settings))  # the same bytes as long as weights and code are the same


if __name__ == "__main__":
    run(main)
