"""A candidate of the simulated space: the changes that led to it, read from text without running anything."""

import ast

from asi_arch.errors import CandidateError

PARTS = ("gate", "decay", "state", "path", "norm", "convolution")
SEED = "seed"  # the first word of every design
VERBS = ("add", "turn", "drop")
STEPS = tuple(f"{verb}_{part}" for part in PARTS for verb in VERBS)
MOST = 400  # changes of one design

Design = tuple[str, ...]


def read_design(source: str) -> Design:
    """Give the words of a source: an optional docstring and `STEPS = ["seed", ...]`, a literal.

    Raises:
        CandidateError: phase `source`: it is no such text. Phase `graph`: there is no such change.
    """
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError) as error:
        raise CandidateError("source", "syntax", f"not a Python literal: {error}") from None
    if body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
        body = body[1:]
    match body:
        case [ast.Assign(targets=[ast.Name(id="STEPS")], value=ast.List(elts=elements))]:
            words = [e.value if isinstance(e, ast.Constant) else None for e in elements]
        case _:
            raise CandidateError("source", "structure", "the text must be one list of words, STEPS = [...]")
    if not words or words[0] != SEED:
        raise CandidateError("source", "structure", f"the first word must be {SEED!r}")
    for i, word in enumerate(words[1:], start=1):
        if word not in STEPS:
            raise CandidateError("graph", "operator", f"change {i} is none of {', '.join(STEPS)}: {word!r}")
    if len(words) > MOST:
        raise CandidateError("graph", "range", f"{len(words)} changes, the limit is {MOST}")
    return tuple(str(word) for word in words)


def size(design: Design, part: str) -> int:
    """Give how often a part was added, less how often it was dropped."""
    return design.count(f"add_{part}") - design.count(f"drop_{part}")
