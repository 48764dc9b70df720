"""Each leaf of params.yaml and each edit of code makes stale what docs/staleness.md says, and nothing else."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import staleness

from adshift.project import repair
from adshift.studies import declare

# Whose domain an image is in: prepare and split look at these.
ASSIGNED = ("shift.kind", "shift.recorded.column", "shift.recorded.pattern", "shift.recorded.shifted")

Table = dict[str, tuple[set[str], set[str]]]
Code = dict[tuple[str, str], tuple[set[str], set[str]]]


def of(*methods: str) -> set[str]:
    """What depends on the code of these methods alone."""
    groups = ("fit", "fit_unified", "score", "score_unified", "lever")
    return {"check", "package", *LABELLED} | {f"{group}@{method}" for group in groups for method in methods}


FITS = {"fit", "fit_unified"}
SCORES = {"score", "score_unified"}
COPIES = {"harden", "normalise"}  # they run a network
LEVERS = {*COPIES, "align", "adapt", "lever"}
EVALUATIONS = {"evaluate", "evaluate_ablation"}
ABLATION = {"ablate", "score_ablation"}
CHECKS = {"check", "check_network"}
TABLES = {"aggregate", "report"}
LABELLED = {*TABLES, "timings"}  # tables read the records of metrics, scenarios and methods
SCENARIO_STAGES = {"calibrate", *EVALUATIONS, "evaluate_pixels", *LABELLED, "package"}
BANKS = ("patchcore", "patchcore_pq")
GAUSSIANS = ("padim", "padim_streaming", "padim_diagonal")
STUDENTS = ("paste", "stfpm")

# {edit: stages that are stale at once}, by what the stages import. What is edited in code makes `sources` stale too.
STALE: dict[tuple[str, str], set[str]] = {
    ("comment", "src/adshift/runtime/seeding.py"): set(),
    ("comment", "src/adshift/data/splits.py"): set(),
    ("comment", "stages/fit.py"): set(),
    ("docstring", "src/adshift/data/images.py"): set(),
    ("layout", "src/adshift/search/kernels.py"): set(),
    ("function body", "src/adshift/project/params.py"): set(),
    ("function body", "src/adshift/runtime/seeding.py"): {
        *CHECKS, "prepare", "split", "shift", "harden", "adapt", "lever", *FITS, "ablate", *EVALUATIONS, *TABLES,
        "package",
    },
    ("function body", "src/adshift/data/images.py"): {
        *CHECKS, "prepare", "split", "shift", "embed", *COPIES, "evaluate_pixels", "package", "report",
    },
    ("renamed local", "src/adshift/search/kernels.py"): {*of(*BANKS, *GAUSSIANS, "cfa"), *ABLATION},
    ("function body", "src/adshift/data/datasets/sample.py"): {"check", "prepare"},
    ("function body", "src/adshift/data/splits.py"): {*CHECKS, "split"},
    ("renamed local", "src/adshift/data/split_file.py"): {
        *CHECKS, "split", *FITS, *SCORES, *LEVERS, *ABLATION, "calibrate", "evaluate_ablation", *TABLES, "package",
    },
    # `embed` reads the rows that it kept.
    ("constant", "src/adshift/features/store.py"): {
        "check", "embed", *FITS, *SCORES, *COPIES, "align", "lever", *ABLATION, *LABELLED, "package",
    },
    ("function body", "src/adshift/features/backbones/folding.py"): {*CHECKS, "embed", *COPIES, "package"},
    ("function body", "src/adshift/features/backbones/edge/mcunet.py"): {"check_network"},  # the one in use is timm's
    ("constant", "src/adshift/search/coreset.py"): {*of(*BANKS), *ABLATION},
    ("function body", "src/adshift/detectors/padim.py"): of("padim"),
    ("renamed local", "src/adshift/detectors/components/training.py"): of(*STUDENTS, "cfa"),
    ("function body", "src/adshift/evaluation/scenarios.py"): {*CHECKS, *SCENARIO_STAGES, "lever"},
    ("function body", "src/adshift/evaluation/calibration.py"): {"calibrate", *EVALUATIONS, "package"},
    ("constant", "src/adshift/evaluation/metrics/pro.py"): {"evaluate_pixels", *LABELLED, "package"},
    ("function body", "src/adshift/evaluation/intervals.py"): {*EVALUATIONS, *TABLES},
    ("renamed local", "src/adshift/report/page.py"): {"report"},
    ("template", "src/adshift/report/page.html"): {"report"},
    ("function body", "src/adshift/deploy/package.py"): {"package"},
    ("function body", "stages/score.py"): SCORES,
    ("version", "torch"): {*CHECKS, "embed", *COPIES, *of("padim", *STUDENTS, "cfa")},
    ("version", "timm"): {*CHECKS, "embed", *COPIES, *of(*STUDENTS)},
    ("version", "numpy"): {
        *CHECKS, "prepare", "split", "shift", "embed", *FITS, *SCORES, *LEVERS, *ABLATION, "calibrate",
        *EVALUATIONS, "evaluate_pixels", *LABELLED, "package",
    },
    ("version", "faiss-gpu"): {*of(*BANKS, "cfa"), *ABLATION},
    ("version", "anomalib"): {"nothing"},  # only the methods `anomalib_NAME` import it, and this graph has none
    # Masks are shrunk where images are read.
    ("version", "scipy"): {
        *CHECKS, "prepare", "split", "shift", "embed", *COPIES, "calibrate", *EVALUATIONS, "evaluate_pixels",
        *LABELLED,
        "package",
    },
    ("version", "scikit-image"): {"check", "prepare", "shift", "harden"},
    ("version", "pillow"): {
        *CHECKS, "prepare", "split", "shift", "embed", *COPIES, "evaluate_pixels", "package", "report",
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[staleness.Pipeline]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(staleness.ROOT)  # restored at the end: Pipeline goes to its own folder
        yield staleness.Pipeline(tmp_path_factory.mktemp("pipeline"))


@pytest.fixture(scope="module")
def found(pipeline: staleness.Pipeline) -> Table:
    assert pipeline.stale() == set()
    return staleness.table(pipeline)


def reached(found: Table, prefix: str) -> set[str]:
    """All that changes of leaves under `prefix` may re-run."""
    sets = [direct | after for key, (direct, after) in found.items() if key.startswith(prefix)]
    assert sets, prefix
    return set.union(*sets)


def groups(names: set[str]) -> set[str]:
    """What stands before the @."""
    return {name.split("@")[0] for name in names}


def items(names: set[str], word: str) -> set[str]:
    """Items of a method, class or domain."""
    return {name for name in names if word in name.partition("@")[2].split("-")}


@pytest.fixture(scope="module")
def code(pipeline: staleness.Pipeline) -> Code:
    return staleness.code_table(pipeline)


def test_the_docs_show_what_dvc_says(pipeline: staleness.Pipeline, found: Table, code: Code) -> None:
    assert staleness.document(pipeline, found, code) == staleness.DOC.read_text(), (
        "run `python tests/pipeline/staleness.py`"
    )


@pytest.mark.parametrize("edit", STALE, ids=" of ".join)
def test_an_edit_makes_stale_what_runs_the_code(
    pipeline: staleness.Pipeline, code: Code, edit: tuple[str, str]
) -> None:
    direct, _ = code[edit]
    sources = set() if edit[0] == staleness.VERSION else {"sources"}
    assert set(staleness.collapse(direct, pipeline.names()).split(", ")) == STALE[edit] | sources


def test_every_edit_of_the_docs_is_expected() -> None:
    assert set(staleness.EDITS) == set(STALE)


@pytest.mark.parametrize(
    "edit", [("comment", "src/adshift/runtime/seeding.py"), ("constant", "src/adshift/evaluation/metrics/pro.py")]
)
def test_dvc_finds_the_same_stages_after_an_edit(
    pipeline: staleness.Pipeline, code: Code, edit: tuple[str, str]
) -> None:
    kind, path = edit[0], Path(edit[1])
    before = path.read_text()
    path.write_text(staleness.CHANGES[kind](before))
    try:
        assert pipeline.stale() == {"sources"}
        staleness.sources.write(staleness.paths.SOURCES)  # as the stage does
        assert pipeline.stale() == code[edit][0]
    finally:
        path.write_text(before)
        staleness.sources.write(staleness.paths.SOURCES)
    assert pipeline.stale() == set()


def test_what_is_ignored_concerns_the_model_cards_and_the_report_alone(pipeline: staleness.Pipeline) -> None:
    assert {name for name, deps in pipeline.deps.items() if "data/sources/ignored.json" in deps} == {
        "package",
        "report",
    }
    assert {name for name, deps in pipeline.deps.items() if "data/sources/versions.json" in deps} == set()


def test_every_leaf_reaches_a_stage(found: Table) -> None:
    unread = {key for key, (direct, after) in found.items() if direct | after <= staleness.CHECKS}
    # What the first two come to is in graph.scenarios and graph.unified; all detectors together need every layer.
    assert unread == {"scenarios", "unified", "features.store"}


def test_patchcore_touches_no_network_and_no_padim(found: Table) -> None:
    touched = reached(found, "patchcore.")
    assert groups(touched) & {"embed", "shift", "prepare", "split"} == set()
    assert items(touched, "padim") == set()


def test_padim_touches_no_patchcore(found: Table) -> None:
    touched = reached(found, "padim.")
    assert groups(touched) & {"embed", "shift", "prepare", "split", "ablate", "score_ablation"} == set()
    assert items(touched, "patchcore") == set()


@pytest.mark.parametrize(
    "knob", ["patchcore.neighbours", "patchcore.reweight", "padim.smoothing", "padim_diagonal.smoothing"]
)
def test_a_knob_of_scoring_refits_nothing(found: Table, knob: str) -> None:
    method = knob.split(".", maxsplit=1)[0]
    touched = reached(found, knob)
    assert groups(touched) & {"embed", *COPIES, "fit", "fit_unified"} == set()
    # The fit and the scores of a lever are one stage.
    assert all(f"lever@{method}-" in name for name in touched if name.startswith("lever@"))
    assert f"score@{method}-hazelnut" in touched


@pytest.mark.parametrize("knob", ["patchcore.coreset", "patchcore.metric", "padim.n_features", "paste.epochs"])
def test_a_knob_of_the_fit_refits(found: Table, knob: str) -> None:
    assert f"fit@{knob.split('.', maxsplit=1)[0]}-hazelnut-clean" in reached(found, knob)


def test_calibration_fits_and_scores_nothing(found: Table) -> None:
    touched = groups(reached(found, "calibrate."))
    kept = {
        "embed",
        *LEVERS,
        "fit",
        "fit_unified",
        "score",
        "score_unified",
        "evaluate_pixels",
        "ablate",
        "score_ablation",
    }
    assert touched & kept == set()
    assert "calibrate" in touched


def test_shift_touches_nothing_clean(found: Table) -> None:
    touched = reached({key: sets for key, sets in found.items() if key not in ASSIGNED}, "shift.")
    assert groups(touched) & {"fit_unified", "score_unified", "prepare", "split"} == set()
    assert items(touched, "clean") == set()
    assert items(touched, "shift")


@pytest.mark.parametrize(
    ("knob", "own"), [("harden.", "harden"), ("normalise.", "normalise"), ("align.", "align"), ("adapt.", "adapt")]
)
def test_a_knob_of_a_lever_runs_that_lever_alone(found: Table, knob: str, own: str) -> None:
    touched = reached(found, knob)
    made = groups(touched) - CHECKS - SCENARIO_STAGES
    assert made == {own, "lever"}
    assert {name.rpartition("-")[2] for name in touched if name.startswith("lever@")} == {own}


def test_a_new_class_makes_no_item_of_another_stale(pipeline: staleness.Pipeline, found: Table) -> None:
    direct, _ = found["classes"]
    known = set(pipeline.values["classes"])
    assert {name for name in direct if known & set(name.partition("@")[2].split("-"))} == set()
    assert "embed@extra-clean" in direct


@pytest.fixture
def files(pipeline: staleness.Pipeline) -> dict[str, str]:
    """{stage: the dvc.yaml that it is in}."""
    pipeline.repo._reset()
    stages = list(pipeline.repo.index.stages)
    found = {stage.name: stage.path_in_repo for stage in stages}
    assert len(found) == len(stages)  # a name says enough without the file
    return found


def test_repair_and_studies_know_every_dvc_file(files: dict[str, str]) -> None:
    assert {str(lock.with_suffix(".yaml")) for lock in repair.LOCKS} == set(files.values()) <= set(declare.CODE)


def test_a_plain_repro_runs_the_stages_of_both_files(pipeline: staleness.Pipeline, files: dict[str, str]) -> None:
    """It takes the root's and whatever these depend on."""
    root = {name for name, file in files.items() if file == "dvc.yaml"}
    assert {name for name in files if name not in root and not pipeline.dependants[name] & root} == set()


def test_the_test_can_fail(pipeline: staleness.Pipeline, tmp_path: Path) -> None:
    """A file that a stage depends on makes it stale: the placeholders hide nothing."""
    module = Path("data/sources/stages/split.json")
    before = module.read_text()
    module.write_text(before + "\n")
    try:
        assert "split" in pipeline.stale()
    finally:
        module.write_text(before)
    assert pipeline.stale() == set()
