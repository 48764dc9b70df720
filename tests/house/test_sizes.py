"""A module has at most 350 lines, a function at most 60: more is more than one thing."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
MODULE, FUNCTION = 350, 60


def functions(tree: ast.Module) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return (function.end_lineno or function.lineno) - function.lineno + 1


def test_modules_and_functions_are_short() -> None:
    texts = {path: path.read_text(encoding="utf-8") for path in [*ROOT.glob("src/**/*.py"), *ROOT.glob("stages/*.py")]}
    assert len(texts) > 100
    modules = {str(path): text.count("\n") for path, text in texts.items() if text.count("\n") > MODULE}
    assert modules == {}
    found = {f"{path}:{one.name}": length(one) for path, text in texts.items() for one in functions(ast.parse(text))}
    assert {name: lines for name, lines in found.items() if lines > FUNCTION} == {}
