"""`make clean` removes what the pipeline writes, and no file of anybody else beside it."""

import shutil
import subprocess
from pathlib import Path

from ruamel.yaml import YAML

from tiny import ROOT


def outputs() -> list[str]:
    """Every output of both DVC files, for the data set `mvtec`."""
    found = []
    for file in ("dvc.yaml", "pipeline/dvc.yaml"):
        for stage in YAML(typ="safe").load((ROOT / file).read_text())["stages"].values():
            for out in [*stage.get("outs", []), *stage.get("metrics", [])]:
                path = out if isinstance(out, str) else next(iter(out))
                found.append(
                    path.replace("${dataset.name}", "mvtec")
                    .replace("data/${item.domain}/", "data/shift/")
                    .replace("${item.", "{")
                )
    return found


def test_outputs_go_and_images_stay(tmp_path: Path) -> None:
    (tmp_path / "src/adshift/data").mkdir(parents=True)
    shutil.copy(ROOT / "Makefile", tmp_path)
    shutil.copy(ROOT / "src/adshift/data/registry.py", tmp_path / "src/adshift/data")
    made = [tmp_path / path / "file" if "." not in Path(path).name else tmp_path / path for path in outputs()]
    mine = [tmp_path / path for path in ("data/mine/1.png", "models/old/1.png", "report/1.png", "plots/1.png")]
    assert len(made) > 20
    for path in [*made, *mine]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    subprocess.run(["make", "clean"], cwd=tmp_path, check=True, capture_output=True)
    assert [path for path in made if path.exists()] == []
    assert all(path.exists() for path in mine)
    assert not (tmp_path / "timings").exists()  # nothing of anybody's is in it
