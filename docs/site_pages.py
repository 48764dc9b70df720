"""The site's generated pages, and links that lead out of docs/: a hook of mkdocs (`make docs`).

Generated from what they describe, so that nothing is written twice:

    parameters.md    from params.yaml and its comments
    cli.md           from the command's own parser
    api/*.md         one page for each package of src/adshift, from the tree; mkdocstrings fills them

Files outside of docs/ that pages link to (CONTRIBUTING.md, the published figures) become part of the site, and links in
both directions are rewritten. On a git host the same links work as they stand.
"""

import argparse
import ast
import functools
import posixpath
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "adshift"
# Files of the repository that the site takes in: {path in the repository: path in the site}.
OUTSIDE = {
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "LICENSE": "LICENSE.txt",
    "params.yaml": "params.yaml",
    **{f"reference/{path.name}": f"reference/{path.name}" for path in sorted((ROOT / "reference").glob("*"))},
}
ROOMS = (
    "runtime", "data", "features", "search", "detectors", "evaluation", "report", "deploy", "project", "studies", "cli",
)  # fmt: skip  # their order in the navigation; packages that are not named follow
PUBLIC = ("load", "Model", "Prediction", "Region")
LINK = re.compile(r"(\]\()([^)#\s]+)(#[^)\s]*)?(\))")


# --- mkdocs' events


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """List the API's pages in the navigation."""
    for entry in config.nav or []:
        if "API" in entry:
            entry["API"] = [{"Public API": "api/index.md"}, *({name: f"api/{name}.md"} for name in packages())]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what is generated and what lies outside of docs/."""
    pages = {"parameters.md": parameters((ROOT / "params.yaml").read_text(encoding="utf-8")), "cli.md": command_line()}
    pages["api/index.md"] = public_api()
    for name in packages():
        pages[f"api/{name}.md"] = package_page(name)
    for uri, text in pages.items():
        files.append(File.generated(config, uri, content=text))
    for path, uri in OUTSIDE.items():
        files.append(File.generated(config, uri, content=(ROOT / path).read_bytes()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Rewrite links between docs/ and the files outside of it."""
    uri = page.file.src_uri
    mirrored = {site: path for path, site in OUTSIDE.items()}
    here = posixpath.dirname(mirrored.get(uri, f"docs/{uri}"))  # in the repository

    def rewritten(found: re.Match[str]) -> str:
        target = found[2]
        if ":" in target or target.startswith("/"):
            return found[0]
        path = posixpath.normpath(posixpath.join(here, target))
        if path in OUTSIDE:
            site = OUTSIDE[path]
        elif uri in mirrored and path.startswith("docs/"):
            site = path.removeprefix("docs/")
        else:
            return found[0]
        return found[1] + posixpath.relpath(site, posixpath.dirname(uri) or ".") + (found[3] or "") + found[4]

    return LINK.sub(rewritten, markdown)


# --- the API


def packages() -> list[str]:
    """Packages of the library, in the order of the layers."""
    found = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    return [name for name in ROOMS if name in found] + sorted(found - set(ROOMS))


def modules(folder: Path) -> list[tuple[str, str]]:
    """(dotted name, first sentence of the docstring) of each module below a folder."""
    found = []
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        told = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        if told:
            found.append((name, " ".join(told.split("\n\n")[0].split())))
    return found


def package_page(name: str) -> str:
    """A page with all modules of a package."""
    found = modules(PACKAGE / name)
    lines = [f"# adshift.{name}", "", *listed(found), ""]
    for module, _ in found:
        lines += [f"::: {module}", "    options: {show_submodules: false}", ""]
    return "\n".join(lines)


def public_api() -> str:
    """What `import adshift` offers, and which module holds what."""
    lines = [
        "# Public API", "", "`import adshift` loads nothing heavy: NumPy and torch are imported at the first use.", "",
    ]  # fmt: skip
    for name in PUBLIC:
        lines += [f"::: adshift.{name}", ""]
    lines += ["::: adshift.errors.AdshiftError", "", "## Where is what", ""]
    top = [(name, told) for name, told in modules(PACKAGE) if name.count(".") == 1 and not is_package(name)]
    for package in packages():
        lines += [f"### [{package}]({package}.md)", "", *listed(modules(PACKAGE / package)), ""]
    return "\n".join([*lines, "### Beside the packages", "", *listed(top), ""])


def is_package(name: str) -> bool:
    """Whether a dotted name is that of a folder."""
    return (PACKAGE.parent / name.replace(".", "/")).is_dir()


def listed(found: Iterable[tuple[str, str]]) -> list[str]:
    """A table of modules."""
    return ["| module | what it does |", "| --- | --- |"] + [
        f"| `{name}` | {told.replace('|', chr(92) + '|')} |" for name, told in found
    ]


# --- parameters


def parameters(text: str) -> str:
    """Every parameter with its default and its comment, a table for each section of params.yaml."""
    lines = [
        "# Parameters", "",
        "Generated from [params.yaml](../params.yaml), where you change them. `dvc exp run -S KEY=VALUE` changes",
        "one for a single experiment. [What a change re-runs](staleness.md) says which stages each one affects.", "",
    ]  # fmt: skip
    sections: dict[str, list[str]] = {"General": []}
    for key, value, told in leaves(text):
        cells = (f"`{key}`", f"`{value}`" if value else "empty", told.replace("|", "\\|"))
        sections.setdefault(key.split(".")[0] if "." in key else "General", []).append("| " + " | ".join(cells) + " |")
    for section, rows in sections.items():
        lines += ["", f"## {section}", "", "| parameter | default | meaning |", "| --- | --- | --- |", *rows]
    return "\n".join(lines) + "\n"


def leaves(text: str) -> Iterator[tuple[str, str, str]]:
    """(dotted key, value, comment) of every leaf, from the text: a YAML reader would drop the comments."""
    above: list[tuple[int, str]] = []
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        found = re.fullmatch(r"( *)([\w-]+):(?: +([^#\s].*?))?(?: +# ?(.*))?", line.rstrip())
        if found is None:
            raise ValueError(f"params.yaml: no key in {line!r}")
        depth = len(found[1])
        above = [entry for entry in above if entry[0] < depth]
        if len(following) - len(following.lstrip()) > depth and found[3] is None:
            above.append((depth, found[2]))
        else:
            yield ".".join([*(name for _, name in above), found[2]]), found[3] or "", found[4] or ""


# --- the command line


def command_line() -> str:
    """What `--help` says, of every verb."""
    from adshift.cli import parser

    lines = ["# Command line", "", "`adshift VERB --help` prints the same. Every verb ends with 0 on success.", ""]
    for name, one in verbs(parser()):
        lines += [f"## {name}", "", "```text", help_of(one), "```", ""]
    return "\n".join(lines)


def verbs(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """(words of the command, its parser) of the leaves of a tree of parsers."""
    below = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not below:
        yield parser.prog, parser
    for action in below:
        for one in action.choices.values():
            yield from verbs(one)


def help_of(parser: argparse.ArgumentParser) -> str:
    """The help's text, the same on a terminal of any width."""
    parser.formatter_class = functools.partial(argparse.HelpFormatter, width=100)  # type: ignore[assignment]
    return parser.format_help().strip()
