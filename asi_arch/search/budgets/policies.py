"""The budgets by name, as the setting `budget` names them."""

from collections.abc import Mapping

from asi_arch.errors import SetupError
from asi_arch.search.budgets.base import Budget
from asi_arch.search.budgets.full import Full
from asi_arch.search.budgets.halving import Halving
from asi_arch.search.budgets.racing import Racing

BUDGETS: Mapping[str, Budget] = {"full": Full(), "halving": Halving(), "racing": Racing()}


def budget_of(name: str) -> Budget:
    """Give a budget by name. Raises SetupError when there is none of that name."""
    if name not in BUDGETS:
        raise SetupError(f"setting 'budget' must be one of {', '.join(BUDGETS)}, not {name!r}")
    return BUDGETS[name]
