"""What a story is made of, and the difference of two sources."""

import difflib
from dataclasses import dataclass

from asi_arch.report.tables import Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A titled part of a story: words, a table, or a unified difference of two sources."""

    title: str
    body: str | Table
    is_diff: bool = False


def difference(old: str, new: str, old_name: str, new_name: str) -> str:
    """Give the unified difference of two sources."""
    lines = difflib.unified_diff(old.splitlines(), new.splitlines(), old_name, new_name, lineterm="")
    return "\n".join(lines) or "none: the two sources are equal"
