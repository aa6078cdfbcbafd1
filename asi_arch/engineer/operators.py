"""The operators that a graph may hold, by exact name: everything else is refused.

The lists stand in `operators.toml`. Forward operators are functional and deterministic; operators
of `asi_arch.ops` stay one node each.
"""

import tomllib
from pathlib import Path

_LISTS = tomllib.loads((Path(__file__).parent / "operators.toml").read_text())
_OURS = "linear_attention retention simple_gla gla delta_rule gated_delta_rule kda short_conv"

FORWARD_OPERATORS = frozenset(f"aten.{name}" for name in _LISTS["forward"])
RANDOM_OPERATORS = frozenset(f"aten.{name}" for name in _LISTS["random"])
INITIAL_OPERATORS = FORWARD_OPERATORS | RANDOM_OPERATORS | {f"aten.{name}" for name in _LISTS["initial"]}
OUR_OPERATORS = frozenset(f"asi_arch.{name}.default" for name in _OURS.split())
ALLOWED_OPERATORS = FORWARD_OPERATORS | OUR_OPERATORS
