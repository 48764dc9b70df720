"""A tiny data set in MVTec's layout and a copy of the project to run on it, as a user's own clone would be."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from adshift.project import graph_lists, repair

ROOT = Path(__file__).parents[2]
CLASSES = ("dots", "rings", "waves")
PIPELINE = "pipeline/dvc.yaml"  # in front of the names of its stages, where DVC speaks


def texture(kind: str, generator: np.random.Generator) -> np.ndarray:
    """(64, 64, 3) uint8: one of three textures with random phase, tint and grain."""
    y, x = np.mgrid[:64, :64] + generator.uniform(0, 8, (2, 1, 1))
    value = {
        "dots": np.sin(x / 2) * np.sin(y / 2),
        "rings": np.sin(np.hypot(x - 36, y - 36)),
        "waves": np.sin(x / 3 + np.sin(y / 5)),
    }[kind]
    tint = generator.uniform(0.8, 1.0, 3)
    image = (0.5 + 0.3 * value)[..., None] * tint + generator.normal(0, 0.02, (64, 64, 3))
    return (255 * image.clip(0, 1)).astype(np.uint8)


def write_tree(root: Path, classes: tuple[str, ...] = CLASSES) -> None:
    """10 train/good, 4 test/good, 4 of each of two defect types with masks."""
    for kind in classes:
        for part, defect, count in (
            ("train", "good", 10),
            ("test", "good", 4),
            ("test", "hole", 4),
            ("test", "spot", 4),
        ):
            folder = root / kind / part / defect
            folder.mkdir(parents=True, exist_ok=True)
            for index in range(count):
                generator = np.random.default_rng([CLASSES.index(kind), len(part), len(defect), ord(defect[0]), index])
                image = texture(kind, generator)
                if defect != "good":
                    row, column = generator.integers(8, 44, 2)
                    mask = np.zeros((64, 64), np.uint8)
                    mask[row : row + 12, column : column + 12] = 255
                    image[mask > 0] = 0 if defect == "hole" else 230
                    truth = root / kind / "ground_truth" / defect
                    truth.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(mask).save(truth / f"{index:03}_mask.png")
                Image.fromarray(image).save(folder / f"{index:03}.png")


def rewrite(path: Path, values: Mapping[str, object]) -> None:
    """Set dotted keys of params.yaml, and `graph` as it follows from them."""
    from ruamel.yaml import YAML

    yaml = YAML()
    document = yaml.load(path.read_text())
    for key, value in values.items():
        *parents, last = key.split(".")
        place = document
        for part in parents:
            place = place[part]
        place[last] = value
    document["graph"] = graph_lists.lists(document)
    with path.open("w") as file:
        yaml.dump(document, file)


def flip(file: Path, *, seen: bool = False) -> None:
    """One bit, seven eighths into the content (of features: a training image), as a failing disk does.

    Args:
        file: rights and inode stay.
        seen: whether its time changes, which DVC goes by.
    """
    before, content = file.stat(), bytearray(file.read_bytes())
    content[len(content) * 7 // 8] ^= 1
    file.chmod(0o644)
    file.write_bytes(content)
    file.chmod(before.st_mode)
    if not seen:
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def plain(address: str) -> str:
    """A stage's name, without the file that it is in."""
    return address.removeprefix(f"{PIPELINE}:")


class Project:
    """A git clone of this working tree in `folder`, with its own DVC cache, whose commands a test runs."""

    def __init__(self, folder: Path, threads: int = 2) -> None:
        self.folder, self.threads = folder, threads
        self.environment: dict[str, str] = {}

    def copy(self) -> "Project":
        """Fill the folder with the working tree as it is and commit it."""
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT, check=True, capture_output=True,
        ).stdout.decode()  # fmt: skip
        for name in filter(None, listed.split("\0")):
            if (ROOT / name).is_file() and not name.startswith("docs/results") and Path(name).name != "dvc.lock":
                (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, self.folder / name)
        self.link("copy")  # tests damage one of the two copies in place; test_links has the shipped setting
        for cache in (ROOT / "src").rglob("__pycache__"):  # compiled modules and kernels: half a minute saved
            shutil.copytree(cache, self.folder / cache.relative_to(ROOT), dirs_exist_ok=True)
        self.git("init", "-q", "-b", "main")
        self.commit("copy")
        return self

    def link(self, kinds: str) -> None:
        """Set how DVC puts outputs into the workspace: reflink, hardlink, symlink or copy, the first that works."""
        config = self.folder / ".dvc" / "config"
        config.write_text(re.sub(r"(?m)^    type = .*$", f'    type = "{kinds}"', config.read_text()))

    def full_environment(self) -> dict[str, str]:
        """In which its commands run."""
        return {
            **os.environ,
            "PATH": str(Path(sys.executable).parent) + os.pathsep + os.environ["PATH"],
            "PYTHONPATH": str(self.folder / "src"),
            "ADSHIFT_THREADS": str(self.threads),
            **self.environment,
        }

    def run(self, *command: str, ok: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command in the project, its own library first on the path; its output is in the failure's message."""
        done = subprocess.run(
            command, cwd=self.folder, env=self.full_environment(), capture_output=True, text=True, check=False
        )
        if ok and done.returncode:
            raise AssertionError(
                f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
            )
        return done

    def dvc(self, *arguments: str, ok: bool = True) -> str:
        done = self.run("dvc", *arguments, ok=ok)
        return done.stdout + done.stderr

    def git(self, *arguments: str) -> str:
        identity = ("-c", "user.name=test", "-c", "user.email=test@example.org")
        return self.run("git", *identity, *arguments).stdout

    def commit(self, message: str) -> None:
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", message)

    def change(self, **changes: object) -> None:
        """Set dotted keys of params.yaml (with __ for the dot)."""
        rewrite(self.folder / "params.yaml", {key.replace("__", "."): value for key, value in changes.items()})

    def locked(self) -> dict[str, dict[str, Any]]:
        """{stage: its entry} of both files dvc.lock: what it ran, read and wrote."""
        from ruamel.yaml import YAML

        locks = [YAML(typ="safe").load((self.folder / lock).read_text()) for lock in repair.LOCKS]
        return {name: stage for lock in locks for name, stage in lock["stages"].items()}

    def hashes(self) -> dict[str, str]:
        """{output: md5}, timings left out: the only outputs that may differ between runs."""
        outs = [out for stage in self.locked().values() for out in stage.get("outs", [])]
        return {out["path"]: out["md5"] for out in outs if "timings" not in out["path"]}

    @staticmethod
    def ran(output: str) -> set[str]:
        """Stages that `dvc repro` or `adshift repro` says it ran."""
        by_dvc = re.findall(r"(?m)^Running stage '(.+)':$", output)
        return {plain(name) for name in by_dvc} | set(re.findall(r"(?m)^ *\d+/\d+  (\S+)  [\d.]+ s$", output))
