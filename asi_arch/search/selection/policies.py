"""The policies of selection by name, as the setting `selection` names them."""

from collections.abc import Mapping

from asi_arch.errors import SetupError
from asi_arch.search.selection import best_of_n, evenly, map_elites, paper, thompson, uct
from asi_arch.search.selection.base import Policy

POLICIES: Mapping[str, Policy] = {
    "paper": paper.choose,
    "uct": uct.choose,
    "map_elites": map_elites.choose,
    "thompson": thompson.choose,
    "random": evenly.choose,
    "best_of_n": best_of_n.choose,
}


def policy_of(name: str) -> Policy:
    """Give a policy by name. Raises SetupError when there is none of that name."""
    if name not in POLICIES:
        raise SetupError(f"setting 'selection' must be one of {', '.join(POLICIES)}, not {name!r}")
    return POLICIES[name]
