"""What `make` installs is pinned and hashed, its licences are listed, and an audit that saw nothing does not pass."""

# ruff: noqa: E501

import re
import tomllib
from pathlib import Path

import audit
import licences

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "requirements.txt").read_text()


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def unhashed(text: str) -> list[str]:
    """Requirements that are not pinned with == and a sha256, comments and options left out."""
    joined = text.replace("\\\n", " ")
    lines = [line.strip() for line in joined.splitlines() if line.strip() and not line.strip().startswith(("#", "--"))]
    sound = re.compile(r"[A-Za-z0-9._-]+(\[[^]]*\])?==\S+( ;[^#]*?)?( +--hash=sha256:[0-9a-f]{64})+( +#.*)?")
    return [line.split()[0] for line in lines if not sound.fullmatch(line)]


def test_every_requirement_is_pinned_and_hashed() -> None:
    assert len(licences.pinned(TEXT)) > 100
    assert unhashed(TEXT) == []


def test_what_is_not_is_noticed() -> None:
    good = "a==1 \\\n    --hash=sha256:" + "0" * 64 + "\n"
    for line in ("b==1\n", "b>=1 --hash=sha256:" + "0" * 64 + "\n", "b==1 --hash=md5:00\n", "b @ https://x/b.whl\n",
                 "git+https://x/b\n"):  # fmt: skip
        assert unhashed(good + line) == [line.split()[0]]


def test_every_direct_dependency_is_there_within_its_range() -> None:
    from packaging.requirements import Requirement

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = licences.pinned(TEXT)
    wanted = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    assert len(wanted) > 20
    for requirement in map(Requirement, wanted):
        if requirement.name == project["name"]:  # an extra that holds others
            assert requirement.extras <= project["optional-dependencies"].keys(), str(requirement)
            continue
        versions = [version for name, version in pins if canonical(name) == canonical(requirement.name)]
        assert versions, str(requirement)
        assert all(requirement.specifier.contains(version, prereleases=True) for version in versions), str(requirement)


def test_make_installs_these_and_nothing_else() -> None:
    """uv checks hashes where they are; our own package comes without dependencies."""
    recipe = (ROOT / "Makefile").read_text().split("$(SETUP):")[1].split("\n\n")[0]
    installs = [line for line in recipe.splitlines() if " install " in line]
    assert [("-r requirements.txt" in line, "--no-deps -e ." in line, line.rstrip().endswith(" uv")) for line in installs] == [
        (False, False, True), (True, False, False), (False, True, False),
    ]  # fmt: skip


def test_the_list_of_licences_names_every_pinned_package() -> None:
    page = (ROOT / "docs/licences.md").read_text()
    listed = re.findall(r"(?m)^\| ([A-Za-z0-9._-]+) \| (\S+) \|", page.split("## Packages")[1])
    assert listed[2:] == licences.pinned(TEXT)  # if not: python tests/house/licences.py


def test_copyleft_is_flagged() -> None:
    for declared, said in (("GPL-3.0-or-later", "**copyleft**"), ("MPL-2.0", "**copyleft**"), ("LGPLv3", "**copyleft**"),
                           ("GNU Lesser General Public License", "**copyleft**"), ("MIT", ""), ("none declared", "**ask**"),
                           ("BSD-3-Clause", ""), ("NVIDIA Proprietary Software", "proprietary")):  # fmt: skip
        assert licences.remark(declared) == said, declared


def test_an_audit_that_saw_nothing_does_not_pass() -> None:
    fine, bad = {"name": "a", "version": "1", "vulns": []}, {"name": "b", "version": "1", "vulns": [{"id": "CVE-1"}]}
    skipped = {"name": "c", "skip_reason": "not found"}
    assert audit.verdict([fine])[0] == 0
    assert audit.verdict([fine, bad, skipped])[0] == 1
    assert audit.verdict([fine, skipped])[0] == audit.verdict([])[0] == 2
    assert "1 of 2 packages looked at" in audit.verdict([fine, skipped])[1][0]
