"""Tell whether two sources are the same program, whatever their comments and layout."""

import ast
from functools import lru_cache

from asi_arch.records import text_hash


@lru_cache(maxsize=4096)
def source_hash(source: str) -> str:
    """Give a hash of the source's syntax tree without comments, docstrings and layout.

    Names count: a renamed variable is another program here; equal graphs are found later, by the
    engineer. A source that does not parse, or is nested too deeply, is hashed as text, so it still
    equals itself.
    """
    try:
        tree = ast.parse(source)
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                _drop_docstring(node)
        return text_hash(ast.dump(tree))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return text_hash(source)


def _drop_docstring(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> None:
    match node.body[:1]:
        case [ast.Expr(value=ast.Constant(value=str()))]:
            node.body = node.body[1:]
