"""Run the benchmarks, print one table, keep it in benchmarks/results/latest.json.

python benchmarks/run.py [NAME ...]     make bench [ONLY=NAME]     all, or those named; the others' entries stay
python benchmarks/run.py --markdown     the table of what is kept
python benchmarks/run.py --docs         rewrite the tables in docs/benchmarks.md from what is kept

A benchmark is a file bench_NAME.py with `run() -> {entry's name: entry}`; harness.py says what an entry holds.
"""

import argparse
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from typing import Any

from harness import HERE, PROVENANCE, Entry, provenance

NAMES = (
    "coreset",
    "fit_patchcore",
    "score",
    "image",
    "embed",
    "pixel_metrics",
    "knobs",
    "scale",
    "job",
    "own",
    "later",
    "serve",
    "startup",
)
RESULTS = HERE / "results" / "latest.json"
PAGE = HERE.parent / "docs" / "benchmarks.md"
HEAD = ("benchmark", "ours", "peer", "peer / ours", "memory", "peer's", "target", "is", "met")
TOLD = {"ours", "peer", "ratio", "memory", "targets", "extrapolated", "sizes", *PROVENANCE}  # not told as facts
PATCHES = 784  # of an image
OPEN, CLOSE = "<!-- bench:", "<!-- /bench -->"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Ours against the peers.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(NAMES)}; all where none is named")
    parser.add_argument("--markdown", action="store_true", help="print the table of what is kept, run nothing")
    parser.add_argument("--docs", action="store_true", help="rewrite the tables in docs/benchmarks.md, run nothing")
    chosen = parser.parse_args(arguments)
    unknown = [name for name in chosen.names if name not in NAMES]
    if unknown:
        sys.exit(f"error: no benchmark {unknown[0]}\n  remedy: choose from {', '.join(NAMES)}")
    os.chdir(HERE.parent)
    if chosen.markdown or chosen.docs:
        kept = read()
        if chosen.markdown:
            print(markdown({name: entry for name, entry in kept.items() if of(name) in (chosen.names or NAMES)}))
        if chosen.docs:
            PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), kept), encoding="utf-8")
        return
    for name in chosen.names or NAMES:
        print(f"{name}...", file=sys.stderr, flush=True)
        entries = import_module(f"bench_{name}").run()
        keep(name, entries)
        print(aligned(rows(entries)), flush=True)


# --- what is kept


def of(entry: str) -> str:
    """The benchmark that an entry belongs to."""
    return entry.split(".", maxsplit=1)[0]


def read() -> dict[str, Entry]:
    """Entries as they are kept."""
    from adshift.runtime.files import read_json

    return read_json(RESULTS)["benchmarks"] if RESULTS.exists() else {}


def keep(name: str, entries: Mapping[str, Entry]) -> None:
    """Put a benchmark's entries in the place of those that it had, each with where it comes from."""
    from adshift.runtime.files import write_json

    facts = provenance()
    kept = {entry: value for entry, value in read().items() if of(entry) != name}
    write_json(RESULTS, {"benchmarks": kept | {entry: {**value, **facts} for entry, value in entries.items()}})


# --- tables


def rows(entries: Mapping[str, Entry]) -> Iterator[tuple[str, ...]]:
    """One line an entry, and one more for each target after its first."""
    for name in _order(entries):
        entry = entries[name]
        ratio = f"{entry['ratio']:.2f}" if entry["ratio"] else ""
        head: tuple[str, ...] = (
            name, *(_seconds(entry[side]) for side in ("ours", "peer")), ratio,
            *(_bytes(entry["memory"][side]) for side in ("ours", "peer")),
        )  # fmt: skip
        for target in entry["targets"] or [None]:
            yield head + _target(target)
            head = ("",) * len(head)


def _order(entries: Iterable[str]) -> list[str]:
    return sorted(entries, key=lambda name: (NAMES.index(of(name)), name))


def _target(target: Mapping[str, Any] | None) -> tuple[str, ...]:
    if target is None:
        return "", "", ""
    return f"{target['what']} <= {target['limit']:g}", f"{target['value']:.3g}", "yes" if target["met"] else "no"


def _seconds(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.2f} s" if value >= 1 else f"{value * 1000:.1f} ms"


def _bytes(value: float | None) -> str:
    return "" if value is None else f"{value / 1e6:.0f} MB"


def aligned(lines: Iterable[tuple[str, ...]]) -> str:
    """A table for a terminal."""
    table = [HEAD, *lines]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    left = {0, 6}
    return "\n".join(
        "  ".join(cell.ljust(width) if place in left else cell.rjust(width)
                  for place, (cell, width) in enumerate(zip(line, widths, strict=True))).rstrip()
        for line in table
    )  # fmt: skip


def markdown(entries: Mapping[str, Entry]) -> str:
    """The table in Markdown, the facts of each entry, and what it was measured on."""
    table = [HEAD, ("---", *["---:"] * 5, "---", "---:", "---"), *rows(entries)]
    lines = ["| " + " | ".join(line) + " |" for line in table]
    return "\n".join([*lines, "", *_facts(entries), "", *_origins(entries.values())])


def _facts(entries: Mapping[str, Entry]) -> Iterator[str]:
    """What an entry says beyond the table, each a line."""
    for name in _order(entries):
        facts = {key: value for key, value in entries[name].items() if key not in TOLD}
        yield f"- `{name}`: " + "; ".join(f"{key} {_plain(value)}" for key, value in facts.items())


def _plain(value: Any) -> str:
    """Any fact in a few words."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} ({_plain(part)})" if isinstance(part, Mapping) else f"{key} {_plain(part)}"
                         for key, part in value.items())  # fmt: skip
    if isinstance(value, list | tuple):
        return " x ".join(map(_plain, value))
    return f"{value:.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def _origins(entries: Iterable[Entry]) -> list[str]:
    """What the entries were measured on, one line for each that differs."""
    found: dict[str, None] = {}
    for entry in entries:
        machine = entry["hardware"]
        found[f"{entry['date'][:10]}, revision {entry['revision']}, {entry['threads']} threads of {machine['cores']} "
              f"({machine['processor']}, {machine['memory_gib']} GiB), "
              + ", ".join(f"{name} {version}" for name, version in entry["versions"].items()) + "."] = None  # fmt: skip
    return list(found)


def extrapolated(entry: Entry) -> str:
    """What the exponents of `scale` mean for published data sets, in Markdown."""
    lines = ["| data set | images | classes | fit, one a class | memory | fit, one for all | memory | score |",
             "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"]  # fmt: skip
    for name, values in entry["extrapolated"].items():
        cells = [name, f"{values['images']:,}", str(values["classes"])]
        for way in ("", "unified_"):
            cells += [_seconds(values[f"{way}fit_seconds"]), _bytes(values[f"{way}fit_memory"])]
        lines.append("| " + " | ".join([*cells, _seconds(values["score_seconds"])]) + " |")
    powers = ", ".join(f"{of} as patches to the power of {slope:.2f}" for of, (_, slope) in entry["exponents"].items())
    room = entry["hardware"]["memory_gib"]
    factor, slope = entry["exponents"]["memory"]
    patches = (room * 2**30 / factor) ** (1 / slope)
    filled = (f"One fit fills {room} GiB with {patches / 1e6:.0f} million patches, {patches / PATCHES:,.0f} images: "
              "beyond, a bigger machine or `patchcore.chunk_patches`.")  # fmt: skip
    return "\n".join([*lines, "", f"Fitted: {powers}. {filled}"])


def filled(page: str, entries: Mapping[str, Entry]) -> str:
    """A page with every `<!-- bench:NAME -->` ... `<!-- /bench -->` filled with that benchmark's table.

    Raises:
        ValueError: a marker is not closed, or names no benchmark.
    """
    first, *parts = page.split(OPEN)
    for place, part in enumerate(parts):
        name, _, rest = part.partition(" -->")
        _, closed, after = rest.partition(CLOSE)
        if not closed or name not in (*NAMES, "sets"):
            raise ValueError(f"{OPEN}{name}: not closed by {CLOSE}, or no benchmark")
        parts[place] = f"{name} -->\n{_table(name, entries)}\n{CLOSE}{after}"
    return OPEN.join([first, *parts])


def _table(name: str, entries: Mapping[str, Entry]) -> str:
    if name == "sets":
        return extrapolated(entries["scale"]) if "scale" in entries else "Not measured yet: `make bench ONLY=scale`."
    found = {key: entry for key, entry in entries.items() if of(key) == name}
    return markdown(found) if found else f"Not measured yet: `make bench ONLY={name}`."


if __name__ == "__main__":
    main()
