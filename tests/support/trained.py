"""Runs of the pipeline on tiny data sets, by its own command line and stages in this process."""

import contextlib
import fcntl
import functools
import io
import runpy
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from adshift import cli
from adshift.features.backbones import Backbone
from adshift.features.settings import Features
from adshift.project import params
from tiny import CLASSES, ROOT, rewrite, write_tree

NAMES = CLASSES[:2]
METHODS = ("patchcore", "padim_diagonal")  # one whose score is not its map's peak, and one whose score is


def stage(script: str, **options: str) -> None:
    """Run `stages/SCRIPT.py --KEY VALUE...` here."""
    arguments = [word for key, value in options.items() for word in (f"--{key}", *value.split())]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [script, *arguments])
        runpy.run_path(str(ROOT / "stages" / f"{script}.py"), run_name="__main__")


def adshift(*words: str) -> tuple[str, object]:
    """Type `adshift WORDS...` here.

    Returns:
        Standard output, and what the process would end with: an exit code, or an error's message for 1.
    """
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as output:
        patch.setattr(sys, "argv", ["adshift", *words])
        try:
            cli.main()
        except SystemExit as end:
            return output.getvalue(), end.code
    return output.getvalue(), 0


BUILD = Backbone.__init__


@functools.cache
def _built(kind: type[Features], settings: str) -> dict[str, Any]:
    backbone = Backbone.__new__(Backbone)
    BUILD(backbone, kind.model_validate_json(settings))
    return vars(backbone)


@contextlib.contextmanager
def one_network() -> Iterator[None]:
    """Equal settings make one network meanwhile: building it takes longer than a tiny data set."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            Backbone, "__init__", lambda self, one: vars(self).update(_built(type(one), one.model_dump_json()))
        )
        yield


@contextlib.contextmanager
def project(folder: Path) -> Iterator[None]:
    """What the command line and the stages need of a project, in `folder`, which is the current one meanwhile."""
    for name in ("src", "stages", "reference"):
        (folder / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / ".dvc" / "plots", folder / ".dvc" / "plots")
    shutil.copy(ROOT / "params.yaml", folder)
    with contextlib.chdir(folder):
        yield


def run(*, report: bool = True) -> None:
    """Every stage from `check` on, in the items of both dvc.yaml; `sources` has run.

    Args:
        report: whether those after `package` run too.
    """
    for script in ("check", "check_network", "prepare", "split"):
        stage(script)
    settings = params.load_all()
    of, seed, domains = {"dataset": settings.dataset.name}, str(settings.seed), settings.graph.domains
    for name in settings.classes:
        for _ in settings.graph.shift:
            stage("shift", **of, seed=seed, name=name)
        for domain in domains:
            with one_network():
                stage("embed", **of, name=name, domain=domain)
        prepare_levers(settings, name)
    for method in settings.methods:
        for name in settings.classes:
            for domain in domains:
                stage("fit", **of, seed=seed, method=method, model=name, domain=domain)
            stage("score", **of, method=method, model=name, domains=f"clean {domains[-1]}")
            for lever in settings.graph.levers:
                stage("lever", **of, seed=seed, method=method, name=name, lever=lever)
        for model in settings.graph.unified:
            stage("fit", **of, seed=seed, method=method, model=model, domain="clean")
            stage("score", **of, method=method, model=model, domains="clean")
        stage("evaluate_pixels", method=method)
    ablate(settings)
    for name in settings.classes if settings.graph.paste else ():
        stage("paste", **of, seed=seed, name=name)
    for script in ("calibrate", "evaluate", "package", *(("aggregate", "report", "timings") if report else ())):
        stage(script)


def ablate(settings: Any) -> None:
    """The coreset ablation."""
    for domain in settings.graph.ablation:
        for name in settings.classes:
            stage("ablate", name=name, domain=domain)
        stage("score_ablation", domain=domain)
        stage("evaluate_ablation")


def prepare_levers(settings: Any, name: str) -> None:
    """What levers need of a class, for every method."""
    of = {"dataset": settings.dataset.name, "name": name}
    with one_network():
        for _ in settings.graph.harden:
            stage("harden", **of, seed=str(settings.seed))
        for domain in settings.graph.normalise:
            stage("normalise", **of, domain=domain)
    for _ in settings.graph.align:
        stage("align", **of)
    for _ in settings.graph.adapt:
        stage("adapt", **of, seed=str(settings.seed))


def shared(folder: Path) -> Path:
    """What `make` makes, by the first process that asks for it."""
    folder.parent.mkdir(exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        whole = folder.with_suffix(".whole")
        if not whole.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of a process that failed
            folder.mkdir()
            make(folder)
            whole.touch()
    return folder


def make(folder: Path, changes: Mapping[str, object] | None = None) -> Path:
    """The pipeline's outputs up to the models in `folder`: small images, batches of 1.

    Args:
        folder: empty.
        changes: dotted keys of params.yaml.
    """
    write_tree(folder / "photos", NAMES)
    with project(folder):
        assert adshift("preset", "mvtec", "--data-root", "photos", "--classes", ",".join(NAMES))[1] == 0
        rewrite(Path("params.yaml"), {
            "methods": list(METHODS), "features.resize": 72, "features.crop": 64, "features.batch": 1,
            "patchcore.coreset": 0.1, "evaluate.bootstrap": 100,
            "patchcore.reweight": "softmax", **(changes or {}),
        })  # fmt: skip
        stage("sources")
        run(report=False)
    return folder
