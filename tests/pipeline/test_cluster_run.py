"""The whole graph on a Dask cluster of two processes: hashes are those of a plain `dvc repro`, cold and after knobs.

`make cluster` asks for all knobs by `ADSHIFT_KNOBS=all`; `make test` turns one that fits again.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tiny import CLASSES, Project, write_tree

pytest.importorskip("distributed", reason="the extra `cluster` is not installed")

KNOBS = {  # one each of scoring, fits, the split, the drift and the features
    "patchcore__neighbours": 3,
    "patchcore__coreset": 0.2,
    "split__train_fraction": 0.7,
    "shift__color__brightness": [0.8, 1.2],
    "features__dtype": "float32",
}


@pytest.fixture(scope="module")
def projects(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Project, Project]]:
    """The same tiny project twice: for a cluster, and for DVC alone."""
    both = tuple(Project(tmp_path_factory.mktemp(name), threads=1) for name in ("cluster", "plain"))
    for project in both:
        write_tree(project.folder / "photos", CLASSES[:1])
        project.copy()
        project.run("adshift", "preset", "mvtec", "--data-root", "photos")
        project.change(
            dataset__root="photos", classes=list(CLASSES[:1]), methods=["patchcore"], patchcore__coreset=0.1,
            features__resize=72, features__crop=64, evaluate__bootstrap=100,
            scenarios=["clean", "shift_no_adaptation", "shift_full_adaptation"],
        )  # fmt: skip
        project.commit("tiny")
    yield both


def both_run(projects: tuple[Project, Project]) -> str:
    """What the cluster's run said."""
    cluster, plain = projects
    said = cluster.run("adshift", "repro", "--cluster", "local:2").stdout
    plain.run("dvc", "repro")
    assert cluster.hashes() == plain.hashes()
    assert not list(Path(cluster.folder, ".dvc", "tmp").glob("adshift-*"))
    return said


def test_hashes_are_those_of_a_plain_run_cold_and_after_each_knob(projects: tuple[Project, Project]) -> None:
    said = both_run(projects)
    assert "cluster: 2 stages at once, on local:2" in said
    assert {"embed@dots-clean", "fit@patchcore-dots-clean", "score@patchcore-dots"} <= Project.ran(said)
    knobs = list(KNOBS) if os.environ.get("ADSHIFT_KNOBS") == "all" else ["patchcore__coreset"]
    for key in knobs:
        for project in projects:
            project.change(**{key: KNOBS[key]})
        assert Project.ran(both_run(projects)), key
