"""The small install: the wheel in an empty environment, and what it takes there to judge an image.

    python tests/house/small.py

Builds the wheel, installs it with its core dependencies alone, and predicts from an exported file. Needs a package
index; exits with 1 if the environment is larger than MOST bytes, holds a package that is not to be there, or an answer
takes more than BUSY times SECONDS, the median of ROUNDS. Between, it warns: the machine may be busy.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests" / "support")]

import plain_model  # noqa: E402

MOST = 300 * 10**6
SECONDS, BUSY = 1.0, 3
ROUNDS = 5
ABSENT = ("torch", "timm", "anomalib", "scikit-learn", "pandas", "scipy", "dvc", "fastapi", "onnx")


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        record = measured(folder)
    print(json.dumps(record, indent=1))
    wrong = [f"{one} is there" for one in ABSENT if one in record["packages"]]
    wrong += [f"{record['bytes']:,} bytes"] * (record["bytes"] > MOST)
    seconds = record["seconds"]
    if seconds > SECONDS:
        print(f"warning: {seconds:.2f} s to the answer, the goal is {SECONDS:g}", file=sys.stderr)
    wrong += [f"{seconds:.2f} s to the answer"] * (seconds > BUSY * SECONDS)
    sys.exit(f"error: {', '.join(wrong)}" if wrong else 0)


def measured(folder: Path) -> dict[str, Any]:
    """Size of the environment, seconds to an answer, and its packages."""
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ROOT)
    [wheel] = folder.glob("adshift-*.whl")
    place = folder / "environment"
    venv.create(place, with_pip=False)
    python = place / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", wheel)
    listed = run(sys.executable, "-m", "pip", "--python", python, "list", "--format", "json")
    file, image = plain_model.write(folder / "nut.onnx"), folder / "part.png"
    image.write_bytes(plain_model.picture(200))
    model, absent = [], []
    for _ in range(ROUNDS):
        for words, spent, code in (((file, image), model, 1), ((file, folder / "no.png"), absent, 2)):
            start = time.perf_counter()
            done = subprocess.run([place / "bin" / "adshift", "predict", *words], capture_output=True, text=True,
                                  check=False, env=os.environ | {"PYTHONPATH": ""}, cwd=folder)  # fmt: skip
            spent.append(time.perf_counter() - start)
            if done.returncode != code:
                sys.exit(f"error: adshift predict ended with {done.returncode}\n{done.stderr}")
    size = sum(path.lstat().st_size for path in (place / "lib").rglob("*") if not path.is_dir())
    return {
        "bytes": size,
        "seconds": round(median(model), 3),
        "seconds_to_refuse_a_path": round(median(absent), 3),
        "packages": {one["name"]: one["version"] for one in json.loads(listed)},
    }


def run(*words: object) -> str:
    return subprocess.run(list(map(str, words)), check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    main()
