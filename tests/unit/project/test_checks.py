"""What the first stage refuses before any work starts."""

import shutil
from pathlib import Path

import pytest

from adshift.detectors import registry
from adshift.errors import AdshiftError
from adshift.project import checks, jobs, params
from adshift.runtime.files import write_json
from tiny import CLASSES, ROOT, Project, write_tree

PATCHES = 8 * 28 * 28  # of the 8 training images of a class, at stride 8 of 224 pixels


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    write_tree(tmp_path / "raw", CLASSES[:1])
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    project = Project(tmp_path)
    project.change(dataset__name="mvtec", dataset__root="raw", classes=[CLASSES[0]])
    return project


@pytest.mark.parametrize("key", ["patchcore.coreset", "patchcore_pq.coreset", "ablation.ratios"])
def test_a_coreset_ratio_that_selects_nothing(project: Project, key: str) -> None:
    project.change(methods=["patchcore_pq"])
    for share, refused in ((1.0, False), (0.99, True)):
        ratio = share / PATCHES
        project.change(**{key.replace(".", "__"): ratio if key.startswith("p") else [ratio, 0.1]})
        if refused:
            with pytest.raises(AdshiftError, match=f"{key}: .* none of the {PATCHES} patches of dots's 8 training"):
                checks.check()
        else:
            checks.check()


def test_fewer_training_images_and_coarser_patches_count(project: Project) -> None:
    project.change(patchcore__coreset=1 / PATCHES, patchcore__stride=2)
    with pytest.raises(AdshiftError, match=f"none of the {PATCHES // 4} patches"):
        checks.check()
    project.change(patchcore__stride=1, split__max_train=2)
    with pytest.raises(AdshiftError, match=f"none of the {PATCHES // 4} patches"):
        checks.check()


def test_named_layers_are_not_refused_on_a_guess(project: Project) -> None:
    """Their strides are known to the network alone."""
    project.change(patchcore__coreset=0.1 / PATCHES, features__layers=["blocks.1", "blocks.2", "blocks.4"])
    checks.check()


def test_a_large_set_is_advised_to_store_what_is_needed(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """22 images in two domains, of 56 x 56 x 24, 28 x 28 x 40 and 14 x 14 x 112 values of two bytes."""
    advice = lambda: [line for line in checks.check().warnings if "features.store" in line]  # noqa: E731
    project.change(methods=["patchcore"])
    assert not advice()
    first, others = 56 * 56 * 24, 28 * 28 * 40 + 14 * 14 * 112
    monkeypatch.setattr(checks, "LARGE", 2 * 2 * 22 * (first + others))
    assert len(advice()) == 1
    monkeypatch.setattr(checks, "LARGE", 2 * 2 * 22 * (first + others) + 1)
    assert not advice()
    monkeypatch.setattr(checks, "LARGE", 1)
    project.change(methods=["patchcore", "padim"])  # all levels
    assert not advice()
    project.change(methods=["patchcore"], features__store="needed")
    assert not advice()


def test_strides_of_a_small_network_are_not_guessed(project: Project) -> None:
    Path("weights.pth").touch()
    project.change(patchcore__coreset=0.1 / PATCHES, features__backbone="mcunet-in3", features__weights="weights.pth")
    checks.check()


def test_a_level_of_the_ablation_counts_without_patchcore(project: Project) -> None:
    project.change(methods=["padim"], patchcore__layers=[4])
    with pytest.raises(AdshiftError, match=r"patchcore\.layers: level 4"):
        checks.check()


def test_stfpm_needs_stored_images(project: Project) -> None:
    project.change(methods=["stfpm"])
    with pytest.raises(AdshiftError, match=r"features\.images"):
        checks.check()
    project.change(features__images=True)
    checks.check()


@pytest.mark.parametrize("method", [name for name in registry.REGISTRY if name != "patchcore"])
def test_a_level_that_is_not_there_is_told_of_a_method_in_use(project: Project, method: str) -> None:
    project.change(methods=["patchcore"], features__images=True, **{f"{method}__layers": [4]})
    checks.check()
    project.change(methods=["patchcore", method])
    with pytest.raises(AdshiftError, match=rf"{method}\.layers: level 4"):
        checks.check()


def test_a_rule_that_needs_validation_images_and_a_protocol_without(project: Project) -> None:
    project.change(split__protocol="official", calibrate__rule="target_fpr")
    with pytest.raises(AdshiftError, match=r"calibrate\.rule: target_fpr .* split\.protocol: official has none"):
        checks.check()
    project.change(calibrate__rule="f1_exact")
    checks.check()


def test_the_official_protocol_trains_on_all(project: Project) -> None:
    project.change(split__protocol="official", patchcore__coreset=1 / PATCHES * 8 / 10)
    checks.check()  # 10 training images, where the study leaves 8
    project.change(split__protocol="study")
    with pytest.raises(AdshiftError, match="selects none"):
        checks.check()


def test_another_file_of_weights_under_the_same_name_is_told(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """DVC does not see it, so nothing would run again."""
    Path("weights.pth").write_bytes(b"one")
    project.change(features__weights="weights.pth")
    checks.check()  # nothing was made with them yet
    settings = params.load("features").features
    write_json(checks.NETWORK, checks.network_record(settings))
    checks.check()
    Path("weights.pth").write_bytes(b"two")
    words = r"features.weights: weights.pth changed since(.|\n)*dvc repro --force --single-item check_network"
    with pytest.raises(AdshiftError, match=words):
        checks.check()
    with pytest.raises(AdshiftError, match=words):
        jobs.repro(1)
    before = checks.NETWORK.read_bytes()
    write_json(checks.NETWORK, checks.network_record(settings))  # as check_network does
    assert checks.NETWORK.read_bytes() != before  # so that what embeds becomes stale
    checks.check()


def test_packaged_weights_leave_the_record_as_it_was(project: Project) -> None:
    assert checks.network_record(params.load("features").features) == {"ok": True}
