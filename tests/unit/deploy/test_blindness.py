"""`adshift blindness`: pasted defects are shared out evenly, detected shares are counts, and records repeat them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import adshift
import trained
from adshift.data.images import read_image
from adshift.data.pasting import CELLS, COPIES, Pasted, Patch, paste
from adshift.deploy.blindness import auroc_of, estimated_auroc, measured
from adshift.project.paths import models_path

NAME = trained.NAMES[0]


@pytest.fixture(scope="module")
def model(study: Path) -> Path:
    return study / models_path("mvtec", "patchcore") / NAME / "clean"


@pytest.fixture(scope="module")
def photos(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Normal test images."""
    folder = tmp_path_factory.mktemp("photos")
    for path in sorted((study / "photos" / NAME / "test" / "good").glob("*.png")):
        shutil.copy(path, folder)
    assert len(list(folder.iterdir())) >= 3
    return folder


@pytest.mark.parametrize("count", [1, 2, 10, 30, 90, 91, 200])
def test_every_image_and_every_kind_has_its_share(count: int) -> None:
    pasted = Pasted.of([f"{number}.png" for number in range(count)], seed=0)
    per_image = np.bincount(pasted.owners, minlength=count)
    assert set(per_image) == {-(-COPIES // count)} and len(pasted.patches) >= COPIES
    kinds = [sum((one.area, one.contrast) == cell for one in pasted.patches) for cell in CELLS]
    assert max(kinds) - min(kinds) <= 1
    assert len({one.model_dump_json() for one in pasted.patches}) == len(pasted.patches)


def test_shares_by_hand() -> None:
    pasted = Pasted.of(["a", "b"], seed=0)
    scores = np.array([1.0, 5.0])
    kind = np.array([CELLS.index((one.area, one.contrast)) for one in pasted.patches])
    pasted_scores = np.where(kind < 3, 2.0, 4.0)
    pasted_scores[np.flatnonzero(kind == 5)[:4]] = 0.0
    result = measured(scores, pasted_scores, pasted, threshold=4.0)
    assert (result.images, result.false_alarms.value, result.threshold) == (2, 0.5, 4.0)
    assert [(cell.area, cell.contrast) for cell in result.cells] == list(CELLS)
    assert [cell.detected.value for cell in result.cells] == [0, 0, 0, 1, 1, 0.6, 1, 1, 1]
    assert all(cell.patches == 10 and cell.detected.low <= cell.detected.value <= cell.detected.high
               for cell in result.cells)  # fmt: skip
    below_both = 4  # of 90; none lies above 5
    assert result.auroc.value == pytest.approx((90 - below_both) / 90 / 2)
    assert result.auroc.low <= result.auroc.value <= result.auroc.high
    text = "\n".join(result.lines())
    assert "60 (26 to 88)" in text and "50 (1 to 99) percent" in text


def test_the_interval_counts_images_not_pastings() -> None:
    """Pasting more on the same images narrows nothing where the images differ and their pastings do not."""
    generator = np.random.default_rng(0)
    scores = generator.normal(size=12)
    few, many = (
        estimated_auroc(scores, np.repeat(scores + 1, each), np.repeat(np.arange(12), each)) for each in (1, 20)
    )
    assert few.value == pytest.approx(many.value) == auroc_of(scores, scores + 1)
    assert many.high - many.low > 0.8 * (few.high - few.low) > 0.05


def test_a_model_sees_strong_defects_better(model: Path, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "pasted"
    text, code = trained.adshift("blindness", str(model), str(photos), "--json", "--out", str(out))
    assert code == 0
    result = json.loads(text)
    paths = sorted(photos.iterdir())
    loaded = adshift.load(model)
    records = json.loads((out / "pasted.json").read_text())
    assert len(records) == sum(cell["patches"] for cell in result["cells"]) >= COPIES
    scores = []
    for record in records:
        image, mask = paste(read_image(record["image"]), Patch.model_validate_json(json.dumps(record["patch"])))
        assert (np.asarray(Image.open(out / record["file"])) == image).all()
        assert (np.asarray(Image.open(out / record["file"].replace(".", "_mask."))) == 255 * mask).all()
        scores.append(loaded.predict([image])[0].score)
    hits = np.array(scores) >= loaded.threshold
    for cell in result["cells"]:
        inside = [
            (one["patch"]["area"], one["patch"]["contrast"]) == (cell["area"], cell["contrast"]) for one in records
        ]
        assert cell["detected"]["value"] == pytest.approx(hits[inside].mean())
    normal = np.array([one.score for one in loaded.predict(paths)])
    assert result["auroc"]["value"] == pytest.approx(auroc_of(normal, np.array(scores)), abs=1e-9)
    assert result["cells"][-1]["detected"]["value"] > result["cells"][0]["detected"]["value"]

    lines, code = trained.adshift("blindness", str(model), str(photos), "--threshold", "-1")
    assert code == 0 and "100 (" in lines.splitlines()[2] and lines.count("\n") == 7
    assert "nothing is overwritten" in str(trained.adshift("blindness", str(model), str(photos), "--out", str(out))[1])
    assert trained.adshift("blindness", str(tmp_path / "nowhere"), str(photos))[1] not in (0, None)
