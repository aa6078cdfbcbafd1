"""The control: every run goes to its end."""

from asi_arch.records import StopRule
from asi_arch.search.budgets.base import Facts


class Full:
    """Stops nothing."""

    def rule(self, facts: Facts) -> StopRule | None:
        """Give no rule."""
        return None
