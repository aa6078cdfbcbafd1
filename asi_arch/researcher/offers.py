"""What `asi_arch.ops` offers an author, read from its signatures and docstrings; nothing is imported."""

import ast
from functools import cache
from pathlib import Path

OPS = Path(__file__).parent.parent / "ops"


@cache
def offers(folder: Path = OPS) -> str:
    """Give signature and docstring of all that a package exports, in the order in which it imports it."""
    exported = [node for node in _tree(folder / "__init__.py").body if isinstance(node, ast.ImportFrom)]
    parts = []
    for node in exported:
        defined = _tree(folder / f"{(node.module or '').rpartition('.')[2]}.py").body
        named = {d.name: d for d in defined if isinstance(d, ast.FunctionDef | ast.ClassDef)}
        parts += [_offer(named[alias.name]) for alias in node.names]
    return "\n\n".join(parts)


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def _offer(node: ast.FunctionDef | ast.ClassDef) -> str:
    if isinstance(node, ast.FunctionDef):
        return f"{_signature(node)}\n{_docstring(node)}"
    methods = {n.name: n for n in node.body if isinstance(n, ast.FunctionDef)}
    init, forward = methods["__init__"], methods["forward"]
    made = _signature(init).replace("__init__(self, ", f"{node.name}(").removesuffix(" -> None")
    called = _signature(forward).replace("self, ", "")
    return f"class {made}\n{_docstring(node)}\n    {called}: {ast.get_docstring(forward) or ''}"


def _signature(node: ast.FunctionDef) -> str:
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"{node.name}({ast.unparse(node.args)}){returns}"


def _docstring(node: ast.FunctionDef | ast.ClassDef) -> str:
    lines = (ast.get_docstring(node) or "").splitlines()
    return "\n".join(f"    {line}" if line else "" for line in lines)
