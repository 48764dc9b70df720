"""Which outputs of the pipeline differ between two checkouts, by the hashes in their lock files.

    python tests/house/compare_locks.py CHECKOUT OTHER

A change that moves code or renames things must leave every output as it was. Records of code and time do differ:
`data/sources`, `timings`, `metrics/timings`, and the models, whose cards name the hashes of the code. Exit code 1:
other outputs differ.
"""

import sys
from pathlib import Path

from ruamel.yaml import YAML

OF_CODE = ("data/sources", "timings", "metrics/timings", "models/")


def outputs(checkout: Path) -> dict[str, str]:
    """{output: its hash} of both lock files; outputs that DVC does not cache have none and are left out."""
    locks = [YAML(typ="safe").load((checkout / path).read_text()) for path in ("dvc.lock", "pipeline/dvc.lock")]
    stages = [stage for lock in locks for stage in lock["stages"].values()]
    return {out["path"]: out["md5"] for stage in stages for out in stage.get("outs", ()) if "md5" in out}


def different(one: dict[str, str], other: dict[str, str]) -> tuple[list[str], list[str]]:
    """Outputs that are not the same in both: those that must be, and those that record code or time."""
    paths = [path for path in sorted(one | other) if one.get(path) != other.get(path)]
    of_code = [path for path in paths if path.startswith(OF_CODE)]
    return [path for path in paths if path not in of_code], of_code


def main() -> int:
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    one, other = (outputs(Path(checkout)) for checkout in sys.argv[1:])
    results, of_code = different(one, other)
    print(f"{len(one)} and {len(other)} outputs; of code and time {len(of_code)} differ, of all others {len(results)}")
    print(*results, sep="\n")
    return bool(results)


if __name__ == "__main__":
    sys.exit(main())
