"""The whole graph on a tiny data set, as a user runs it: what runs, what it reads, what comes out, what is kept."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

import budgets
from adshift.deploy import package
from adshift.project import sources
from adshift.project.paths import DOMAINS, SUMMARY
from faults.damage import MADE_AGAIN, carried_over, reproduce_damaged
from tiny import CLASSES, PIPELINE, Project, flip, plain, write_tree

DIAGONAL = "padim_diagonal"  # of the Gaussians the one that starts soonest

# No output depends on these; the registry of detectors lists its folder.
PLUMBING = {str(path) for path in sources.PLUMBING} | {"src/adshift/detectors"}

OUTPUTS = ("data", "models", "timings", "metrics", "plots", "report")

# Where a stage's inputs can lie; the rest of what it opens belongs to Python and its libraries.
INPUTS = (*OUTPUTS, "photos", "reference", "stages", ".dvc", "src")

# Declared but not read here: what is to run first, published figures of other data, pins of packages.
UNREAD = {
    "check_network": {"data/checked.json"},
    "embed": {"data/checked_network.json"},
    "harden": {"data/checked_network.json"},
    "normalise": {"data/checked_network.json"},
    "prepare": {"data/checked.json"},
    "sources": {"requirements.txt"},  # pins: what is installed may change with it
    "aggregate": {"reference"},
    "report": {"reference"},
}

Trace = dict[str, Any]
Stages = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Project, list[Trace]]]:
    """A run from nothing, of two classes on one thread, traced."""
    folder, traces = (tmp_path_factory.mktemp(name) for name in ("project", "trace"))
    project = Project(folder, threads=1)
    write_tree(project.folder / "photos")
    project.copy()
    project.run("adshift", "preset", "mvtec", "--data-root", "photos")
    project.change(
        dataset__root="photos", classes=list(CLASSES[:2]), methods=["patchcore", DIAGONAL], patchcore__coreset=0.1,
        features__resize=72, features__crop=64, evaluate__bootstrap=100,
    )  # fmt: skip
    project.commit("tiny")
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    project.environment = {
        **one_thread,
        "ADSHIFT_TRACE": str(traces),
        "PYTHONPATH": f"{folder / 'tests' / 'support' / 'trace'}:{folder / 'src'}",
    }
    project.dvc("repro")
    project.environment = one_thread
    project.commit("run")
    yield project, [opened(json.loads(path.read_text())) for path in sorted(traces.glob("*.json"))]


@pytest.fixture(scope="module")
def project(runs: tuple[Project, list[Trace]]) -> Project:
    return runs[0]


@pytest.fixture(scope="module")
def traces(runs: tuple[Project, list[Trace]]) -> list[Trace]:
    return runs[1]


@pytest.fixture(autouse=True)
def unchanged(project: Project) -> Iterator[None]:
    """Fail a test that changes the project and does not restore it: the next one would find other files."""
    yield
    assert project.git("status", "--porcelain") == ""


@pytest.fixture
def restored(unchanged: None, project: Project) -> Iterator[Project]:
    """The project, brought back to its last commit after the test."""
    yield project
    restore(project)


def restore(project: Project) -> None:
    project.git("checkout", "-q", ".")
    project.dvc("checkout", "-q")


@pytest.fixture
def refusing(unchanged: None, project: Project) -> Iterator[Project]:
    """The project for a test in which no stage runs, or `check` alone: its outputs are restored if one was written."""
    before = written(project)
    yield project
    project.git("checkout", "-q", ".")
    if written(project) != before:
        project.dvc("checkout", "-q")


def written(project: Project) -> dict[Path, int]:
    """When each output was written."""
    found = [path for name in OUTPUTS for path in (project.folder / name).rglob("*") if path.is_file()]
    return {path: path.stat().st_mtime_ns for path in found}


@pytest.fixture(scope="module")
def stages(project: Project) -> Stages:
    """DVC's view of every stage: what it declared to depend on and to write."""
    stages: Stages = project.locked()
    for stage in stages.values():
        for dep in stage["deps"]:
            if dep["path"].startswith("data/sources/"):  # stands for the files that it names
                place = project.folder / dep["path"]
                found = sorted(place.iterdir()) if place.is_dir() else [place]
                dep["files"] = {name for path in found for name in json.loads(path.read_text()).get("files", ())}
    return stages


def inside(path: str, places: set[str]) -> bool:
    return any(path == place or path.startswith(place + "/") for place in places)


def declared(stage: dict[str, Any], key: str) -> set[str]:
    return {path for entry in stage.get(key, []) for path in (entry["path"], *entry.get("files", ()))}


def opened(trace: Trace) -> Trace:
    """A trace whose `read` (imported modules among it) and `written` are paths from the project's folder."""
    home = trace["cwd"] + "/"

    def ours(paths: list[str]) -> set[str]:
        whole = (os.path.normpath(os.path.join(home, path)) for path in paths)  # noqa: PTH118
        return {path.removeprefix(home) for path in whole if path.startswith(home) and "__pycache__" not in path}

    read = ours(trace["read"])
    # Python and its libraries look around where the code lies: scripts, modules and what else is a file count there.
    code = {path for path in read if inside(path, {"src", "stages"})}
    files = {path for path in code if Path(path).suffix and (path.startswith("stages") or not path.endswith(".py"))}
    return {**trace, "read": (read - code) | files | ours(trace["modules"]), "written": ours(trace["written"])}


def final(path: str) -> str:
    """The name that a file has at last: `stage.output` writes `.NAME.tmp-PID`."""
    return "/".join(part.removeprefix(".").split(".tmp-")[0] if ".tmp-" in part else part for part in path.split("/"))


def undeclared(trace: Trace, stage: dict[str, Any]) -> set[str]:
    """What a stage reads or writes and does not declare."""
    deps, outs = declared(stage, "deps"), declared(stage, "outs")
    if any(path.startswith("data/features") for path in outs):
        outs |= {"data/kept"}  # rows for the next run: no output depends on them
    if any(path.startswith("data/clean") for path in deps):
        deps |= {"photos"}  # found through the manifest, which holds the images' hashes
    # Folders on the way to an output are made, and its own output is replaced: neither is an input.
    on_the_way = {str(parent) for out in outs for parent in Path(out).parents}
    wrong = set()
    for path in trace["read"] - PLUMBING - on_the_way - {"params.yaml"}:
        if path.split("/")[0] in INPUTS and "/" in path and not inside(final(path), deps | outs):
            wrong.add(f"reads {path}")
    for path in trace["written"]:
        if not inside(final(path), outs):
            wrong.add(f"writes {path}")
    return wrong


def test_a_second_repro_runs_nothing(project: Project) -> None:
    assert project.ran(project.dvc("repro")) == set()


def test_stages_read_and_write_what_they_declare(stages: Stages, traces: list[Trace]) -> None:
    assert {trace["stage"] for trace in traces} == set(stages)
    wrong = {trace["stage"]: undeclared(trace, stages[trace["stage"]]) for trace in traces}
    # The manifest, which is made after the check, holds the images' hashes.
    wrong["check"] = {text for text in wrong["check"] if not text.startswith("reads photos")}
    assert {name: sorted(found) for name, found in wrong.items() if found} == {}


def test_stages_ask_for_the_parameters_they_declare(stages: Stages, traces: list[Trace]) -> None:
    for trace in traces:
        if trace["stage"] != "check":  # it declares the file
            params = stages[trace["stage"]].get("params", {}).get("params.yaml", {})
            assert set(trace["params"]) == set(params), trace["stage"]


def test_stages_declare_no_more_than_some_item_reads(stages: Stages, traces: list[Trace]) -> None:
    read: dict[str, set[str]] = {}
    for trace in traces:
        read.setdefault(trace["stage"].split("@")[0], set()).update(trace["read"])
    for name, stage in stages.items():
        group = name.split("@")[0]
        for path in {entry["path"] for entry in stage["deps"] if "files" not in entry} - UNREAD.get(group, set()):
            assert any(inside(found, {path}) for found in read[group]), f"{name} declares {path}, unread"


def test_a_dependency_left_out_is_noticed(stages: Stages, traces: list[Trace]) -> None:
    noticed = 0
    for trace in traces:
        stage = stages[trace["stage"]]
        for dep in stage["deps"]:
            # Not all items of a group read all, raw images are found through the manifest, and all read params.yaml.
            files = set(dep.get("files", [dep["path"]])) - {path for other in stage["deps"] if other is not dep
                                                            for path in other.get("files", ())}  # fmt: skip
            if any(inside(path, files) for path in trace["read"]) and dep["path"] not in ("photos", "params.yaml"):
                others = [other for other in stage["deps"] if other != dep]
                assert undeclared(trace, {**stage, "deps": others}), f"{trace['stage']} without {dep['path']}"
                noticed += 1
    assert noticed > 150


def test_import_budgets(traces: list[Trace]) -> None:
    """Which slow libraries a stage may load; tests/unit/detectors/test_methods.py checks every detector."""
    for trace in traces:
        group, _, item = trace["stage"].partition("@")
        allowed = {"pandas"} if group in ("aggregate", "report", "timings") else set()
        if group in ("embed", "harden", "normalise"):
            allowed |= {"torch", "timm"}
        if group in ("ablate", "score_ablation"):
            allowed |= budgets.FIT["patchcore"] | budgets.SCORE["patchcore"]
        elif group == "lever":
            method = item.split("-")[0]
            allowed |= budgets.FIT[method] | budgets.SCORE[method]
        elif group.startswith(("fit", "score")):
            table = budgets.FIT if group.startswith("fit") else budgets.SCORE
            allowed |= table[item.split("-")[0]]
        assert set(trace["heavy"]) <= allowed, trace["stage"]


def test_two_threads_give_the_same_bytes(restored: Project) -> None:
    """Of a few stages that are made again; the whole graph so, and elsewhere: `make faults ONLY=same`."""
    before = restored.hashes()
    assert len(before) > 50
    name, environment = CLASSES[0], restored.environment
    again = [
        f"shift@{name}-shift",
        *(f"embed@{name}-{domain}" for domain in DOMAINS),
        *(f"fit@{method}-{name}-{domain}" for method in ("patchcore", DIAGONAL) for domain in DOMAINS),
        *(f"score@{method}-{name}" for method in ("patchcore", DIAGONAL)),
        f"lever@patchcore-{name}-adapt",
    ]
    shutil.rmtree(restored.folder / "data" / "kept")  # or `embed` would copy its rows
    restored.threads, restored.environment = 2, {}
    try:
        said = restored.dvc("repro", "--force", "--single-item", *(f"{PIPELINE}:{stage}" for stage in again))
    finally:
        restored.threads, restored.environment = 1, environment
    assert restored.ran(said) == set(again)
    assert restored.hashes() == before


@pytest.fixture(scope="module")
def tried(project: Project) -> Any:
    """An experiment with another knob of scoring, after which the project is as it was: what ran, the summaries before
    and after, and their difference."""
    summary = project.folder / SUMMARY
    before = json.loads(summary.read_text())
    said = project.dvc("exp", "run", "-S", "patchcore.smoothing=2.0")
    after = json.loads(summary.read_text())
    diff = json.loads(project.run("dvc", "metrics", "diff", "--all", "--json").stdout)
    restore(project)
    return project.ran(said), before, after, diff


def test_an_experiment_changes_patchcores_rows_alone(tried: Any) -> None:
    _, before, after, diff = tried
    assert {key for key in before if before[key] != after[key]} == {"patchcore"}
    (figures,) = (diff.get("diff") or diff).values()
    changed = {key.split(".")[0] for key, figure in figures.items() if figure["old"] != figure["new"]}
    assert "patchcore.auroc" in figures and changed <= {"patchcore"}


def test_a_scoring_knob_refits_nothing(tried: Any) -> None:
    ran = tried[0]
    assert f"score@patchcore-{CLASSES[0]}" in ran
    groups = {name.split("@")[0] for name in ran}
    assert groups & {"embed", "fit", "fit_unified", "ablate"} == set()
    assert {name for name in ran if DIAGONAL in name} == set()


def test_a_value_tried_before_comes_from_the_cache(restored: Project, tried: Any) -> None:
    restored.change(patchcore__smoothing=2.0)
    groups = {name.split("@")[0] for name in restored.ran(restored.dvc("repro"))}
    assert groups <= {"check", "aggregate", "package"}  # their outputs persist, so DVC keeps no run of them


def test_a_knob_of_the_fit_refits_its_method_alone(restored: Project) -> None:
    """Up to the scores of a class: what follows them is as after a knob of scoring."""
    restored.change(padim_diagonal__regularisation=0.02)
    name = CLASSES[0]
    ran = restored.ran(restored.dvc("repro", f"{PIPELINE}:score@{DIAGONAL}-{name}"))
    assert ran == {"check", f"score@{DIAGONAL}-{name}", *(f"fit@{DIAGONAL}-{name}-{domain}" for domain in DOMAINS)}


def test_back_at_the_commit_nothing_runs(project: Project) -> None:
    assert project.ran(project.dvc("repro")) == set()


def test_a_changed_module_runs_what_imports_it(restored: Project) -> None:
    module = restored.folder / "src/adshift/evaluation/calibration.py"
    module.write_text(module.read_text() + "\nCHANGED = True\n")
    groups = {name.split("@")[0] for name in restored.ran(restored.dvc("repro"))}
    assert {"sources", "calibrate", "evaluate", "package"} <= groups
    assert groups & {"prepare", "shift", "embed", "fit", "score", "ablate", "score_ablation"} == set()


def test_a_calibration_knob_refits_nothing(restored: Project) -> None:
    restored.change(calibrate__rule="f1_grid", calibrate__steps=20)
    groups = {name.split("@")[0] for name in restored.ran(restored.dvc("repro"))}
    assert {"check", "calibrate", "evaluate", "package"} <= groups
    assert groups <= {"check", "calibrate", "evaluate", "evaluate_ablation", "package", "aggregate", "report"}


def test_pasted_defects_set_thresholds_and_refit_nothing(restored: Project) -> None:
    restored.change(calibrate__rule="pasted", graph__paste=["pasted"], graph__calibrated=["pasted"])
    ran = restored.ran(restored.run("adshift", "repro", "--jobs", "2").stdout)
    groups = {name.split("@")[0] for name in ran}
    assert {f"paste@{name}-pasted" for name in CLASSES[:2]} <= ran
    assert {"check", "calibrate", "evaluate", "package"} <= groups
    rest = {"paste", "evaluate_ablation", "aggregate", "report", "timings"}
    assert groups <= {"check", "calibrate", "evaluate", "package"} | rest
    assert json.loads((restored.folder / f"{MODEL}/threshold.json").read_text())["rule"] == "pasted"


MODEL = f"models/mvtec/patchcore/{CLASSES[0]}/clean"
WEIGHTS = f"{MODEL}/model.safetensors"


def run_dvc(project: Project, *arguments: str) -> tuple[int, str]:
    done = project.run("dvc", *arguments, ok=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    "name",
    [
        WEIGHTS,
        f"{MODEL}/threshold.json",
        f"data/fitted/mvtec/patchcore/{CLASSES[0]}/clean/model.safetensors",
        f"data/split/mvtec/{CLASSES[0]}.csv",
    ],
)
def test_a_damaged_output_is_made_again(restored: Project, name: str) -> None:
    """DVC sees the new time; every other file: `make faults ONLY=damage`."""
    assert reproduce_damaged(restored, name, run_dvc) == MADE_AGAIN


def test_damage_that_dvc_does_not_see_is_not_packaged_again(restored: Project) -> None:
    assert carried_over(restored, "package", [WEIGHTS, f"{MODEL}/model.json"], run_dvc) == []


def test_a_damaged_model_is_refused_and_its_remedy_works(restored: Project) -> None:
    def predict() -> tuple[int, str]:
        done = restored.run("adshift", "predict", MODEL, f"photos/{CLASSES[0]}/test/good/000.png", ok=False)
        return done.returncode, done.stderr

    flip(restored.folder / WEIGHTS)
    code, said = predict()
    assert code == 2
    assert f"{WEIGHTS}: damaged" in said
    assert "`adshift repair`" in said
    assert restored.ran(restored.dvc("repro")) == set()  # DVC does not see it
    assert restored.run("adshift", "repair").stdout == f"{WEIGHTS}: damaged, removed\n"
    hashes = restored.hashes()
    assert restored.ran(restored.dvc("repro")) == {"package"}
    assert restored.hashes() == hashes
    assert predict() in ((0, ""), (1, ""))


def test_the_summary_is_of_params_yaml(restored: Project) -> None:
    """After a run that was interrupted behind its first stage, and before any."""

    def refused() -> str:
        done = restored.run("adshift", "summary", ok=False)
        assert (done.returncode, done.stdout) == (1, "")
        assert "other parameters or data" in done.stderr
        assert "`dvc repro`" in done.stderr
        assert "Traceback" not in done.stderr
        return done.stderr

    assert "patchcore" in restored.run("adshift", "summary").stdout
    restored.change(patchcore__coreset=0.3)
    assert "changed since: params.yaml\n" in refused()
    restored.dvc("repro", "check")
    assert "changed since: data/settings/patchcore/fit.json\n" in refused()
    restored.change(dataset__name="visa", seed=7)
    assert "changed since: dataset, dataset.name, seed, " in refused()


def test_a_summary_alone_is_shown(project: Project, tmp_path: Path) -> None:
    """In a clone that has pulled nothing, and after a change of code."""
    project.git("clone", "-q", str(project.folder), str(tmp_path / "clone"))
    clone = Project(tmp_path / "clone")
    module = clone.folder / "src/adshift/evaluation/calibration.py"
    module.write_text(module.read_text() + "\n")
    assert clone.run("adshift", "summary").stdout == project.run("adshift", "summary").stdout


def test_a_remote_serves_another_clone_whole_and_in_part(project: Project, tmp_path: Path) -> None:
    remote, clone, part = (tmp_path / name for name in ("remote", "clone", "part"))
    project.dvc("remote", "add", "-f", "-d", "local", str(remote))
    project.commit("remote")
    project.dvc("push")
    for folder in (clone, part):
        project.git("clone", "-q", str(project.folder), str(folder))
    whole = Project(clone)
    whole.dvc("pull")
    assert whole.ran(whole.dvc("repro")) == set()
    one = f"models/mvtec/patchcore/{CLASSES[0]}/clean"
    Project(part).dvc("pull", one)
    assert {path.name for path in (part / one).iterdir()} == set(package.FILES) - {"alignment.npz"}
    assert [path.name for path in (part / "models/mvtec").rglob("model.json")] == ["model.json"]


def test_a_new_class_runs_no_item_of_another(restored: Project) -> None:
    """One model of the new class is made and scored; of what is left to do, nothing is another class's."""
    restored.change(classes=list(CLASSES))
    wanted = f"patchcore-{CLASSES[2]}"
    ran = restored.ran(restored.run("adshift", "repro", f"score@{wanted}", "--jobs", "2").stdout)
    assert ran == {
        "check", "prepare", "split", f"shift@{CLASSES[2]}-shift", f"score@{wanted}",
        *(f"embed@{CLASSES[2]}-{domain}" for domain in DOMAINS), *(f"fit@{wanted}-{domain}" for domain in DOMAINS),
    }  # fmt: skip
    left = {plain(name) for name in json.loads(restored.run("dvc", "status", "--json").stdout)}
    assert f"fit@{DIAGONAL}-{CLASSES[2]}-clean" in left
    assert {name for name in left if set(CLASSES[:2]) & set(name.partition("@")[2].split("-"))} == set()


def outputs(project: Project) -> dict[Path, int]:
    """When each output was written, but check's, which writes the same bytes again."""
    again = (project.folder / "data/checked.json", project.folder / "data/settings")
    return {path: time for path, time in written(project).items() if not any(map(path.is_relative_to, again))}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"patchcore__coreset": 5.0}, "patchcore.coreset: input should be less than or equal to 1"),
        ({"patchcore__corset": 0.1}, "patchcore.corset: extra"),
        ({"patchcore__coreset": 1e-9}, "patchcore.coreset: 1e-09 selects none of"),
        ({"ablation__ratios": [1e-9, 0.1]}, "ablation.ratios: 1e-09 selects none of"),
        ({"classes": ["dots", "squares"]}, "classes: squares not found under photos"),
        ({"dataset__root": "nowhere"}, "dataset.root: nowhere does not exist"),
        ({"features__weights": "nowhere.pth"}, "nowhere.pth is not a file"),
        ({"padim_diagonal__layers": [4]}, "padim_diagonal.layers: level 4"),
        ({"split__train_fraction": 0.01}, "class dots: 1 train"),
        ({"split__contamination": 0.9}, "split.contamination: 0.9 moves"),  # found by split
        ({"features__layers": ["blocks.1", "blocks.2", "blocks.x"]}, "has no blocks.x"),  # found by check_network
    ],
)
def test_a_mistake_is_told_and_nothing_is_lost(refusing: Project, change: dict[str, object], words: str) -> None:
    """Two of them pass the stage `check`, which then writes dvc.lock."""
    before = outputs(refusing)
    refusing.change(**change)
    done = refusing.run("dvc", "repro", ok=False)
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert words in said
    assert said.count("error: ") == 1
    assert "Traceback" not in said
    assert outputs(refusing) == before


@pytest.mark.parametrize("text", ["classes: hazelnut", "classes: [dots"])
def test_what_dvc_itself_cannot_read_is_told(refusing: Project, text: str) -> None:
    """A string where the matrix wants a list, and no YAML: DVC stops before any stage; `adshift check` says why."""
    path = refusing.folder / "params.yaml"
    before = outputs(refusing)
    values = YAML(typ="safe").load(path.read_text())
    del values["classes"]
    with path.open("w") as file:
        YAML().dump(values, file)
        file.write(text + "\n")
    done, check = refusing.run("dvc", "repro", ok=False), refusing.run("adshift", "check", ok=False)
    assert done.returncode != 0 != check.returncode
    assert "ERROR: " in done.stderr + done.stdout
    assert "params.yaml" in check.stderr
    assert "classes" in check.stderr
    assert "Traceback" not in done.stderr + check.stderr
    assert outputs(refusing) == before


def test_a_truncated_image_leaves_all_outputs(refusing: Project) -> None:
    image = refusing.folder / "photos" / CLASSES[0] / "test" / "good" / "000.png"
    whole, before = image.read_bytes(), outputs(refusing)
    image.write_bytes(whole[: len(whole) // 2])
    done = refusing.run("dvc", "repro", ok=False)
    assert done.returncode != 0
    assert "test/good/000.png: damaged or truncated" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert outputs(refusing) == before
