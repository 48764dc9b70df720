"""`make audit`: what is pinned against the known vulnerabilities, as far as an advisory service can be reached.

pip-audit asks the package index's own JSON interface or OSV. Where it cannot, it says "No known vulnerabilities found"
beside a list of packages that it skipped: that would pass for a clean bill, so this script counts what was looked at.
Exit code 0: all looked at, none known. 1: vulnerabilities. 2: some or all could not be looked at.
"""

# ruff: noqa: E501

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SERVICES = ("pypi", "osv")
PROBE = "pillow"  # one package first: if nobody answers for it, nobody is asked 200 times


def ask(service: str, lines: list[str]) -> tuple[list[dict[str, Any]], str]:
    """Packages as pip-audit reports them, and its last word if there is no report."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(lines) + "\n")
        file.flush()
        command = [sys.executable, "-m", "pip_audit", "--no-deps", "--disable-pip", "--format", "json", "--timeout", "10",
                   "--vulnerability-service", service, "--requirement", file.name]  # fmt: skip
        done = subprocess.run(command, check=False, capture_output=True, text=True)
    try:
        return json.loads(done.stdout)["dependencies"], ""
    except (ValueError, KeyError):
        return [], (done.stderr.strip().splitlines() or ["no answer"])[-1][:200]


def verdict(found: list[dict[str, Any]]) -> tuple[int, list[str]]:
    """Exit code and lines about a report."""
    skipped = [one["name"] for one in found if "skip_reason" in one]
    bad = [one for one in found if one.get("vulns")]
    lines = [f"{one['name']} {one['version']}: {', '.join(v['id'] for v in one['vulns'])}" for one in bad]
    lines.append(
        f"{len(found) - len(skipped)} of {len(found)} packages looked at, {len(bad)} with known vulnerabilities"
    )
    if skipped:
        lines.append(f"not looked at: {', '.join(skipped[:20])}{' ...' if len(skipped) > 20 else ''}")
    return 1 if bad else 2 if skipped or not found else 0, lines


def main() -> None:
    pins = re.findall(r"(?m)^[A-Za-z0-9._-]+(?:\[[^]]*\])?==[^ ;\\]+", (ROOT / "requirements.txt").read_text())
    probe = [pin for pin in pins if pin.startswith(f"{PROBE}==")]
    for service in SERVICES:
        found, told = ask(service, probe)
        if not found or "skip_reason" in found[0]:
            print(f"{service}: does not answer for {probe[0]} ({told or found[0]['skip_reason']})")
            continue
        code, lines = verdict(ask(service, pins)[0])
        print("\n".join(f"{service}: {line}" for line in lines))
        sys.exit(code)
    print(f"nothing was audited: no advisory service can be reached, {len(pins)} packages were not looked at")
    sys.exit(2)


if __name__ == "__main__":
    main()
