"""Records what a stage really opens, when ADSHIFT_TRACE names a folder: put this folder on PYTHONPATH of a DVC run."""

import atexit
import json
import os
import sys
from pathlib import Path

if "ADSHIFT_TRACE" in os.environ and "DVC_STAGE" in os.environ:
    here = Path.cwd()
    read: set[str] = set()
    written: set[str] = set()
    params: set[str] = set()

    def hook(event: str, args: tuple) -> None:
        if event == "open" and isinstance(args[0], str):
            mode, flags = args[1], args[2] or 0
            writes = any(letter in mode for letter in "wax+") if mode else flags & (os.O_WRONLY | os.O_RDWR)
            (written if writes else read).add(args[0])
        elif event in ("os.listdir", "os.scandir") and isinstance(args[0], str):
            read.add(args[0])
        elif event == "os.link":
            read.add(os.fspath(args[0]))
        elif event == "adshift.project.params":
            params.update(args[0])

    def report() -> None:
        modules = {
            getattr(module, "__file__", None) for name, module in sys.modules.items() if name.startswith("adshift")
        }
        record = {
            "stage": os.environ["DVC_STAGE"].split(":")[-1],  # in whichever dvc.yaml it is
            "read": sorted(path for path in read),
            "written": sorted(path for path in written),
            "modules": sorted(path for path in modules if path),
            "heavy": sorted({"torch", "anomalib", "sklearn", "faiss", "numba", "pandas", "timm"} & set(sys.modules)),
            "params": sorted(params),
            "cwd": str(here),
        }
        folder = Path(os.environ["ADSHIFT_TRACE"])
        # A process may end twice (forked workers): the file of the stage's own process is the one with modules.
        (folder / f"{record['stage'].replace('@', '+')}.{os.getpid()}.json").write_text(json.dumps(record))

    sys.addaudithook(hook)
    atexit.register(report)
