"""What is switched off leaves DVC no stage: the lists that matrices run over, and who keeps them right."""

import json
from pathlib import Path

import pytest

from adshift.errors import AdshiftError
from adshift.evaluation.pairs import PAIRS, pairs
from adshift.evaluation.scenarios import SCENARIOS, possible
from adshift.project import checks, graph_lists, params, presets
from adshift.studies import declare
from tiny import ROOT, Project

CLEAN = ["clean", "unified", "unified_absolute", "clean_normalised", "clean_aligned", "clean_hardened"]  # no drift


def values(kind: str = "synthetic", unified: bool = True, classes: int = 2, ratios: tuple[float, ...] = (0.1,)) -> dict:
    names = [f"class{index}" for index in range(classes)]
    return {"shift": {"kind": kind}, "unified": unified, "classes": names, "ablation": {"ratios": list(ratios)},
            "scenarios": "all", "calibrate": {"rule": "auto"}}  # fmt: skip


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (values(), (["clean", "shift"], ["shift"], ["unified"], ["shift"])),
        (values("recorded"), (["clean", "shift"], ["shift"], ["unified"], ["shift"])),
        (values("none"), (["clean"], [], ["unified"], ["clean"])),
        (values(unified=False), (["clean", "shift"], ["shift"], [], ["shift"])),
        (values(classes=1), (["clean", "shift"], ["shift"], [], ["shift"])),
        (values("none", ratios=()), (["clean"], [], ["unified"], [])),
    ],
)
def test_lists_follow_from_the_switches(given: dict, expected: tuple[list[str], ...]) -> None:
    assert tuple(graph_lists.lists(given).values())[:4] == expected


@pytest.mark.parametrize(
    ("kind", "scenarios", "expected"),
    [
        ("synthetic", ["clean"], [[], [], [], [], [], ["features/clean"]]),
        ("synthetic", ["clean", "shift_hardened"], [["harden"], ["harden"], [], [], [], ["features/clean"]]),
        ("none", ["clean", "shift_hardened"], [[], [], [], [], [], ["features/clean"]]),
        ("none", ["clean", "clean_normalised"], [["normalise"], [], ["clean"], [], [], ["levers/normalise"]]),
        ("recorded", ["clean", "shift_adapted", "shift_aligned"],
         [["align", "adapt"], [], [], ["align"], ["adapt"], ["features/clean"]]),
    ],
)  # fmt: skip
def test_levers_follow_from_the_scenarios(kind: str, scenarios: list[str], expected: list) -> None:
    lists = graph_lists.lists(values(kind) | {"scenarios": scenarios})
    assert [lists[key] for key in ("levers", "harden", "normalise", "align", "adapt", "normalised")] == expected
    assert set(lists["scenarios"]) == {one for one in scenarios if kind != "none" or one.startswith("clean")}


@pytest.mark.parametrize(("rule", "paste", "read"), [("auto", [], ["val"]), ("pasted", ["pasted"], ["pasted"])])
def test_defects_are_pasted_only_if_asked(rule: str, paste: list[str], read: list[str]) -> None:
    lists = graph_lists.lists(values() | {"calibrate": {"rule": rule}})
    assert (lists["paste"], lists["calibrated"]) == (paste, read)


def test_the_baseline_is_always_run(project: Project) -> None:
    switch(Path("params.yaml"), "scenarios: all ", "scenarios: [shift_adapted] ")
    with pytest.raises(AdshiftError, match=r"scenarios: clean is missing"):
        presets.derive()


def test_an_unknown_scenario_is_refused(project: Project) -> None:
    switch(Path("params.yaml"), "scenarios: all ", "scenarios: [clean, shift_hardend] ")
    with pytest.raises(AdshiftError, match="scenarios: shift_hardend unknown"):
        presets.derive()


def test_the_shipped_parameters_are_in_line() -> None:
    shipped = params.read(ROOT / "params.yaml")
    assert shipped["graph"] == graph_lists.lists(shipped)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    return Project(tmp_path)


def switch(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_an_edit_is_refused_until_the_lists_follow(project: Project) -> None:
    path = Path("params.yaml")
    switch(path, "kind: synthetic  ", "kind: none       ")
    with pytest.raises(
        AdshiftError, match=r"graph.domains is \['clean', 'shift'\], but the other keys make it"
    ) as told:
        checks.check()
    assert "`adshift check` writes it" in told.value.remedy
    before = path.read_text()
    assert [line.split(": ", 1)[1] for line in presets.derive()] == [
        "graph.domains is now ['clean']", "graph.shift is now []", "graph.ablation is now ['clean']",
        "graph.levers is now ['normalise', 'align', 'harden']",
        "graph.normalise is now ['clean']", "graph.adapt is now []", f"graph.scenarios is now {CLEAN}",
    ]  # fmt: skip
    assert presets.derive() == []
    assert params.load("graph").graph.domains == ("clean",)
    changed = [
        pair for pair in zip(before.splitlines(), path.read_text().splitlines(), strict=True) if len({*pair}) > 1
    ]
    assert [new.split(":")[0].strip() for _, new in changed] == [
        "domains", "shift", "ablation", "levers", "normalise", "adapt", "scenarios",
    ]  # fmt: skip
    assert all("#" in new for _, new in changed)  # comments stay


def test_a_preset_writes_them(project: Project) -> None:
    Path("src").symlink_to(ROOT / "src")
    switch(Path("params.yaml"), "kind: synthetic  ", "kind: none       ")
    presets.derive()
    presets.apply("sample", None)
    assert Path("params.yaml").read_text() == (ROOT / "params.yaml").read_text()


def test_a_study_writes_them(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("studies").mkdir()
    Path("studies/off.yaml").write_text(
        "title: Off\nset: {unified: false}\ngrid: {shift.kind: [none, synthetic]}\n"
        "table: {metrics: [image_auroc]}\nplot: {kind: line, x: kind, metrics: [image_auroc]}\n"
    )
    off, on = declare.expand("off", declare.read("off"), {}, "code")
    assert off.changes["graph.domains"] == ["clean"]
    assert off.changes["graph.shift"] == off.changes["graph.unified"] == []
    changed = {key: value for key, value in on.changes.items() if key.startswith("graph.")}
    assert changed == {
        "graph.unified": [], "graph.scenarios": [one.name for one in SCENARIOS if not one.unified],
    }  # fmt: skip
    json.dumps(off.changes)  # as they go to DVC


def test_scenarios_and_pairs_need_their_domains() -> None:
    every = [one.name for one in SCENARIOS]
    assert possible(every, ("clean", "shift"), True) == SCENARIOS
    assert [one.name for one in possible(["unified", "clean"], ("clean",), False)] == ["clean"]
    assert [one.name for one in possible(every, ("clean",), True)] == CLEAN
    assert {one.name for one in SCENARIOS} - {one.name for one in possible(every, ("clean", "shift"), False)} == {
        "unified", "unified_absolute",
    }  # fmt: skip
    assert pairs(("clean", "shift")) == PAIRS
    assert pairs(("clean", "clean")) == ("clean-on-clean",)


def test_dvc_has_no_stage_of_what_is_off(project: Project) -> None:
    """The stages that DVC lists, with everything on and with everything off."""
    project.folder.joinpath("params.yaml").unlink()
    project.copy()

    def stages() -> set[str]:
        listed = project.dvc("stage", "list", "--all", "--name-only").split()
        return {name.split(":")[-1].split("@")[0] for name in listed}, {name for name in listed if "-shift" in name}

    groups, shifted = stages()
    optional = {"shift", "fit_unified", "score_unified", "ablate", "score_ablation", "evaluate_ablation"}
    optional |= {"harden", "normalise", "align", "adapt", "lever"}
    assert optional <= groups and shifted
    project.change(shift__kind="none", unified=False, ablation__ratios=[], scenarios=["clean"])
    fewer, none = stages()
    assert groups - fewer == optional
    assert none == set()
