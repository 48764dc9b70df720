import os
from pathlib import Path

import pytest

import chromium
import fake_run
import isolation
import kinds
import trained

ROOT = Path(__file__).parents[1]
# Files that take more than six seconds of processor time, which `make test-fast` leaves out.
SLOW = {
    "advice", "anomalib_bridge", "backbones", "bench", "checks", "cluster", "coreset", "device_benchmark", "domains",
    "driver", "every_figure", "export", "folding", "graph_file", "inference", "isolation", "methods", "monitoring",
    "network_options", "package", "padim", "page", "paste", "pasted", "patchcore", "plots", "sample", "serve",
    "serve_fuzz", "shift_by_hand", "site", "splits", "stfpm", "studies", "tables", "tolerances", "transformers",
    "versions",
}  # fmt: skip
LONGEST = (
    "test_pipeline.py", "test_export.py", "test_faults.py", "test_browser.py", "test_studies.py", "test_backbones.py",
    "test_inference.py", "test_methods.py", "test_staleness.py",
)  # fmt: skip

# The first fixtures of their scopes, so that they look when all others have been torn down.
left_by_session = pytest.fixture(scope="session", autouse=True)(isolation.check)
left_by_module = pytest.fixture(scope="module", autouse=True)(isolation.check)
left_by_test = pytest.fixture(autouse=True)(isolation.check)
browser = chromium.browser


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fast", action="store_true", help="without the files named in SLOW")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The files that take longest first, the others in random order: a long one at the end has one core to itself."""
    if config.getoption("--fast"):
        slow = [item for item in items if item.path.stem.removeprefix("test_") in SLOW]
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in set(slow)]
    names = [*LONGEST, ""]
    items.sort(key=lambda item: names.index(item.path.name if item.path.name in LONGEST else ""))


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A folder with every output before aggregation, and the repository's templates and reference figures, as cwd."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "plots").symlink_to(ROOT / ".dvc" / "plots")
    (tmp_path / "reference").symlink_to(ROOT / "reference")
    fake_run.make()
    return tmp_path


@pytest.fixture(scope="session")
def common(tmp_path_factory):
    """A folder that all processes of a test run share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def kind_run(common):
    """Runs on kinds of data sets, each made once for all processes of a test run; read them, change nothing."""
    return lambda name: kinds.made(common / "kinds", name)


@pytest.fixture(scope="session")
def study(common):
    """A project with packaged models, made by the stages once for all processes; read it, change nothing."""
    return trained.shared(common / "study" / "made")
