"""The first wall and the kindest message: rules on a candidate's syntax tree, before it runs.

What it does not protect from: a determined author. The sandbox and the graph do.
"""

import ast

from asi_arch.errors import CandidateError
from asi_arch.records import Verdict

MAX_CHARACTERS = 200_000
ALLOWED_MODULES = ("torch", "math", "einops", "asi_arch.ops", "typing", "__future__")
REFUSED_TORCH = frozenset(
    "_C _dynamo _export _inductor _ops autograd backends compile compiler cuda distributed export from_file "
    "fx hub jit library load manual_seed multiprocessing ops overrides package save serialization "
    "set_default_dtype set_num_threads testing utils".split()
)
REFUSED_NAMES = frozenset(
    "__builtins__ __import__ breakpoint compile delattr eval exec exit globals input locals memoryview open "
    "quit vars".split()
)
REFUSED_ATTRIBUTES = frozenset(
    "builtins ctypes importlib inspect io os pathlib pickle shutil socket subprocess sys threading "
    "warnings".split()
)
RECURRENT = frozenset("GRU GRUCell LSTM LSTMCell RNN RNNCell".split())
ALLOWED_DUNDERS = frozenset(("__init__", "__name__", "__doc__", "__all__"))


def check_source(source: str) -> Verdict:
    """Hold a source against the rules on imports and names.

    Returns:
        The verdict `source`: passed, or the first three faults with their lines.
    """
    if len(source) > MAX_CHARACTERS:
        return _refused(f"{len(source):,} characters (limit {MAX_CHARACTERS:,})")
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        words = getattr(error, "msg", None) or str(error)
        return _refused(f"not Python: {words[:120]}" + (f" (line {line})" if line else ""))
    except (RecursionError, MemoryError):
        return _refused("nested too deeply")
    faults = sorted(
        {(getattr(node, "lineno", 0), fault) for node in ast.walk(tree) for fault in _faults(node)}
    )
    if not faults:
        return Verdict(
            name="source", passed=True, message=f"{len(source):,} characters, imports and names allowed"
        )
    shown = "; ".join(f"line {line}: {fault}" for line, fault in faults[:3])
    return _refused(shown + (f" and {len(faults) - 3} more" if len(faults) > 3 else ""))


def require_source(source: str) -> Verdict:
    """Give the verdict of a good source. Raises CandidateError: phase `source`, when it is not."""
    verdict = check_source(source)
    if not verdict.passed:
        raise CandidateError("source", "rules", verdict.message)
    return verdict


def _refused(message: str) -> Verdict:
    return Verdict(name="source", passed=False, message=message)


def _faults(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [f for alias in node.names for f in _module_faults(alias.name)]
    if isinstance(node, ast.ImportFrom):
        if node.level:
            return ["a relative import; a candidate is one file"]
        module = node.module or ""
        if module == "asi_arch" and all(alias.name == "ops" for alias in node.names):
            return []
        return _module_faults(module) + [
            f
            for alias in node.names
            for f in _torch_faults(f"{module}.{alias.name}")
            if module.startswith("torch")
        ]
    if isinstance(node, ast.Name) and node.id in REFUSED_NAMES:
        return [f"{node.id} is not allowed"]
    if isinstance(node, ast.Attribute):
        return _attribute_faults(node)
    return []


def _module_faults(name: str) -> list[str]:
    if not any(name == allowed or name.startswith(allowed + ".") for allowed in ALLOWED_MODULES):
        return [f"import of {name}; allowed are torch, math, einops and asi_arch.ops"]
    return _torch_faults(name)


def _torch_faults(name: str) -> list[str]:
    parts = name.split(".")
    if parts[0] == "torch" and len(parts) > 1 and parts[1] in REFUSED_TORCH:
        return [f"{'.'.join(parts[:2])} is not allowed"]
    return []


def _attribute_faults(node: ast.Attribute) -> list[str]:
    name = node.attr
    if name.startswith("__") and name.endswith("__") and name not in ALLOWED_DUNDERS:
        return [f"attribute {name} is not allowed"]
    if name in REFUSED_ATTRIBUTES:
        return [f"attribute {name} is not allowed"]
    if name in RECURRENT:
        return [f"{name} runs a loop over T; use a recurrence of asi_arch.ops"]
    if isinstance(node.value, ast.Name) and node.value.id == "torch" and name in REFUSED_TORCH:
        return [f"torch.{name} is not allowed"]
    return []
