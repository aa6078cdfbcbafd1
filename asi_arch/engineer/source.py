"""The first wall and the kindest message: an allow-list on a candidate's syntax tree, before it runs.

Modules, their names and Python's own names come from `source.toml`; the rules on syntax stand in
`source_rules.py`. What it does not protect from: a determined author. The sandbox and the graph do.
"""

import ast

from asi_arch.engineer.source_rules import faults_of
from asi_arch.errors import CandidateError
from asi_arch.records import Verdict

MAX_CHARACTERS = 200_000


def check_source(source: str) -> Verdict:
    """Hold a source against the rules on imports, names, attributes and syntax.

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
    faults = faults_of(tree)
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
