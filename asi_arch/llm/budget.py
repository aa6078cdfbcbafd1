"""The study's budget for language models: dollars, tokens or answers, counted in the archive."""

from asi_arch.calls import Spending
from asi_arch.errors import BudgetError
from asi_arch.settings import Settings


def check_budget(settings: Settings, spending: Spending) -> None:
    """Refuse a further request once a budget is spent.

    Requests that are under way when it is reached are answered, so a study may pass a budget by as many
    answers as it has workers.

    Raises:
        BudgetError: which budget is spent, and the cure.
    """
    budgets = (
        ("budget_dollars", settings.budget_dollars, spending.dollars, f"${spending.dollars:.4f}"),
        ("budget_tokens", settings.budget_tokens, spending.tokens, f"{spending.tokens:,} tokens"),
        ("budget_calls", settings.budget_calls, spending.requests, f"{spending.requests:,} answers"),
    )
    for name, limit, spent, words in budgets:
        if limit and spent >= limit:
            raise BudgetError(
                f"the budget for language models is spent: {words}, and {name} is {limit:,}; go on with "
                f"--set {name}=MORE, or without a model by --set model="
            )
