"""Each kind of leftover fails the test that leaves it, and no other test."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tiny import ROOT

CONFTEST = """
import pytest
import isolation

isolation.PATIENCE = 1.0
left_by_module = pytest.fixture(scope="module", autouse=True)(isolation.check)
left_by_test = pytest.fixture(autouse=True)(isolation.check)
"""
LEAVES = {
    "thread": "threading.Thread(target=time.sleep, args=(5,), name='stray').start()",
    "daemon": "threading.Thread(target=time.sleep, args=(30,), name='stray', daemon=True).start()",
    "handler": "signal.signal(signal.SIGTERM, lambda *_: None)",
    "wakeup": "signal.set_wakeup_fd(PIPE[1])",
    "timer": "signal.setitimer(signal.ITIMER_REAL, 1000)",
    "child": "KEPT.append(subprocess.Popen(['sleep', '9']))",
    "variable": "os.environ['STRAY'] = '1'",
    "variable_removed": "del os.environ['HOME']",
    "directory": "os.chdir('/')",
    "path": "sys.path.append('/stray')",
    "arguments": "sys.argv.append('stray')",
    "limit": "resource.setrlimit(resource.RLIMIT_NOFILE, (99, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))",
    "errors": "np.seterr(over='raise')",
    "torch": "torch.set_num_threads(torch.get_num_threads() + 1)",
    "gradients": "torch.set_grad_enabled(False)",
    "attribute": "signals.LOOK = 7",
    "registry": "registry.REGISTRY['stray'] = 'adshift.detectors.stray'",
    "unfinished": "files._unfinished.append('stray')",
}
KEEPS = {
    "monkeypatch": "patch.setenv('STRAY', '1'); patch.setattr(signals, 'LOOK', 7); patch.chdir('/')",
    "ended_thread": "threading.Thread(target=time.sleep, args=(0.05,), daemon=True).start()",
    "ended_child": "subprocess.run(['true'])",
    "imported": "import adshift.project.presets",
    "stage": "stage.run(lambda: None)",
}


def test_leftovers_fail_the_test_that_leaves_them(tmp_path: Path) -> None:
    names = {f"leaves_{name}": code for name, code in LEAVES.items()} | {
        f"keeps_{name}": code for name, code in KEEPS.items()
    }
    lines = [
        "import os, resource, signal, subprocess, sys, threading, time",
        "import numpy as np, pytest, torch",
        "from adshift.runtime import signals",
        "from adshift.detectors import registry",
        "from adshift.project import stage",
        "from adshift.runtime import files",
        "PIPE, KEPT = os.pipe(), []",
        "os.set_blocking(PIPE[1], False)",
        "@pytest.fixture\ndef patch(monkeypatch): return monkeypatch",
        "@pytest.fixture(scope='module')\ndef careless():\n    os.environ['LEFT_BY_A_FIXTURE'] = '1'",
        *(f"def test_{name}(patch):\n    {code}" for name, code in names.items()),
        "def test_keeps_the_fixture(careless): pass",
    ]
    (tmp_path / "test_these.py").write_text("\n".join(lines) + "\n")
    (tmp_path / "conftest.py").write_text(CONFTEST)
    command = [sys.executable, "-m", "pytest", "-rfEp", "--tb=line", "-p", "no:randomly", "-p", "no:cacheprovider", "."]
    paths = os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests" / "support")])
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, check=False
    )
    failed = re.findall(r"(?m)^ERROR test_these\.py::test_(\w+) - ", done.stdout)
    last = "keeps_the_fixture"  # where the module ends, the fixtures of the module are told
    assert sorted(failed) == sorted([*(name for name in names if name.startswith("leaves")), last]), done.stdout
    assert "LEFT_BY_A_FIXTURE" in done.stdout
    assert f"{len(names) + 1} passed" in done.stdout
