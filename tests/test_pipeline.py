"""The whole graph on a tiny data set, as a user runs it: what runs, what it reads, what comes out, what is kept."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tiny import CLASSES, Project, write_tree

# No output depends on these; see the head of dvc.yaml.
PLUMBING = {"__init__.py", "errors.py", "parallel.py", "params.py", "stage.py", "checks.py", "methods/__init__.py"}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A copy of the project that has run once on two classes, traced, with one thread."""
    folder = tmp_path_factory.mktemp("project")
    write_tree(folder / "raw")
    (folder / "trace").mkdir()
    project = Project(folder, threads=1).copy()
    project.run("adshift", "preset", "mvtec", "--data-root", "raw")
    project.set(classes=list(CLASSES[:2]), patchcore__coreset=0.1)
    project.commit("tiny")
    project.environment = {
        "ADSHIFT_TRACE": str(folder / "trace"),
        "PYTHONPATH": f"{folder / 'tests' / 'trace'}:{folder / 'src'}",
    }
    project.dvc("repro")
    project.environment = {}
    project.commit("run")
    yield project


def stages(project: Project) -> dict[str, dict]:
    """dvc.lock's view of every stage: what it declared to depend on and to write."""
    return YAML(typ="safe").load((project.folder / "dvc.lock").read_text())["stages"]


def test_a_second_repro_runs_nothing(project: Project) -> None:
    assert project.ran(project.dvc("repro")) == set()


def test_stages_read_and_write_what_they_declare(project: Project) -> None:
    traces = {}
    for path in sorted((project.folder / "trace").glob("*.json")):
        trace = json.loads(path.read_text())
        traces.setdefault(trace["stage"], []).append(trace)
    assert set(traces) == set(stages(project))
    raw = project.folder / "raw"
    for name, stage in stages(project).items():
        declared = [(project.folder / dep["path"]).resolve() for dep in stage.get("deps", [])]
        outs = [(project.folder / out["path"]).resolve() for out in stage["outs"]]
        params = set(stage.get("params", {}).get("params.yaml", {}))

        def inside(path: Path, places: list[Path]) -> bool:
            return any(path == place or place in path.parents for place in places)

        for trace in traces[name]:
            for text in trace["read"]:
                path = (project.folder / text).resolve()
                if not inside(
                    path, [project.folder / "data", project.folder / "models", raw, project.folder / "reference"]
                ):
                    continue
                # Raw images are read through a manifest, which holds their hashes and is a declared dependency.
                through_manifest = inside(path, [raw]) and any("data/clean" in str(d) for d in declared)
                # What a stage reads back of its own output, or of a folder on the way to it, is no input.
                own = inside(path, outs) or any(path in out.parents for out in outs) or ".tmp-" in text
                assert inside(path, declared) or through_manifest or own, f"{name} reads {text}, undeclared"
            for text in trace["written"]:
                path = (project.folder / text).resolve()
                if inside(path, [project.folder]) and "__pycache__" not in text:
                    final = Path(*(part.removeprefix(".").split(".tmp-")[0] for part in path.parts))
                    assert inside(final, outs), f"{name} writes {text}, undeclared"
            for module in trace["modules"]:
                path = Path(module).relative_to(project.folder / "src" / "adshift")
                if str(path) not in PLUMBING and path.name != "__init__.py" and not name.startswith("check"):
                    assert inside(Path(module).resolve(), declared), f"{name} imports {path}, undeclared"
            if name != "check":
                asked = {key for key in trace["params"]}
                assert asked == params, f"{name} asks for {sorted(asked)} and declares {sorted(params)}"


def test_import_budgets(project: Project) -> None:
    """Only embed and PaDiM's fit may load torch, and only the latter anomalib."""
    for path in (project.folder / "trace").glob("*.json"):
        trace = json.loads(path.read_text())
        allowed = {"faiss", "numba", "pandas"}
        if trace["stage"].startswith("embed"):
            allowed |= {"torch", "timm"}
        if trace["stage"].startswith(("fit@padim", "fit_unified@padim")):
            allowed |= {"torch", "timm", "anomalib", "sklearn"}
        if trace["stage"].startswith(("check", "prepare", "split", "calibrate", "aggregate", "timings")):
            allowed -= {"faiss", "numba"}
        assert set(trace["heavy"]) <= allowed, trace["stage"]


def test_two_threads_give_the_same_bytes(project: Project, tmp_path: Path) -> None:
    other = Project(tmp_path, threads=2)
    shutil.copytree(project.folder, tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("cache", "tmp", "data",
                    "models", "metrics", "plots", "report", "timings", "dvc.lock"))  # fmt: skip
    other.dvc("repro")
    assert other.hashes() == project.hashes()


def test_an_experiment_changes_patchcores_rows_alone(project: Project) -> None:
    project.dvc("exp", "run", "-S", "patchcore.coreset=0.02")
    diff = json.loads(project.run("dvc", "metrics", "diff", "--json").stdout)
    (changes,) = diff.values()
    assert changes
    assert {key.split(".")[0] for key in changes} == {"patchcore"}
    project.git("checkout", "-q", ".")
    project.dvc("checkout")
    assert project.ran(project.dvc("repro")) == set()


def test_a_calibration_knob_refits_nothing(project: Project) -> None:
    project.set(calibrate__steps=50)
    groups = {name.split("@")[0] for name in project.ran(project.dvc("repro"))}
    assert {"check", "calibrate"} <= groups
    assert groups <= {"check", "calibrate", "evaluate", "evaluate_ablation", "aggregate", "report"}
    project.set(calibrate__steps=1000)
    project.dvc("repro")


def test_a_remote_serves_another_clone_whole_and_in_part(project: Project, tmp_path: Path) -> None:
    remote, clone, part = (tmp_path / name for name in ("remote", "clone", "part"))
    project.dvc("remote", "add", "-f", "-d", "local", str(remote))
    project.commit("remote")
    project.dvc("push")
    for folder in (clone, part):
        project.git("clone", "-q", str(project.folder), str(folder))
        shutil.copytree(project.folder / "raw", folder / "raw", dirs_exist_ok=True)
    whole = Project(clone)
    whole.dvc("pull")
    assert whole.ran(whole.dvc("repro")) == set()
    one = f"models/mvtec/patchcore/{CLASSES[0]}/clean"
    Project(part).dvc("pull", one)
    assert (part / one / "model.json").is_file()
    assert not (part / "models/mvtec/padim").exists()


def test_a_new_class_runs_no_item_of_another(project: Project) -> None:
    project.set(classes=list(CLASSES))
    ran = project.ran(project.dvc("repro"))
    assert f"embed@{CLASSES[2]}-clean" in ran
    touched = {name for name in ran if set(CLASSES[:2]) & set(name.partition("@")[2].split("-"))}
    assert touched == set()
    assert project.ran(project.dvc("repro")) == set()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"patchcore__coreset": 5.0}, "patchcore.coreset: input should be less than or equal to 1"),
        ({"patchcore__corset": 0.1}, "patchcore.corset: extra"),
        ({"patchcore__coreset": 1e-9}, "patchcore.coreset"),
        ({"classes": ["dots", "squares"]}, "classes: squares not found under raw"),
        ({"dataset__root": "nowhere"}, "nowhere"),
        ({"features__weights": "nowhere.pth"}, "nowhere.pth is not a file"),
        ({"padim__layers": [4]}, "padim.layers"),
    ],
)
def test_a_mistake_is_told_and_nothing_is_lost(project: Project, change: dict[str, object], words: str) -> None:
    before = (project.folder / "params.yaml").read_text()
    outputs = {p: p.stat().st_mtime_ns for d in ("data", "models", "metrics") for p in (project.folder / d).rglob("*")
               if p.is_file() and p.name != "checked.json"}  # fmt: skip
    project.set(**change)
    try:
        done = project.run("dvc", "repro", ok=False)
        said = done.stdout + done.stderr
        assert done.returncode != 0
        assert words in said
        assert "Traceback" not in said
        after = {p: p.stat().st_mtime_ns for p in outputs if p.exists()}
        assert after == outputs
    finally:
        (project.folder / "params.yaml").write_text(before)


def test_a_truncated_image_leaves_the_old_manifest(project: Project) -> None:
    image = project.folder / "raw" / CLASSES[0] / "test" / "good" / "000.png"
    whole, manifest = image.read_bytes(), project.folder / "data/clean/mvtec" / CLASSES[0] / "manifest.csv"
    before = manifest.read_text()
    image.write_bytes(whole[: len(whole) // 2])
    try:
        done = project.run("dvc", "repro", ok=False)
        assert done.returncode != 0
        assert "000.png" in done.stdout + done.stderr
        assert "Traceback" not in done.stdout + done.stderr
        assert manifest.read_text() == before
    finally:
        image.write_bytes(whole)
