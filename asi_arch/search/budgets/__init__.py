"""Budgets: when a run that cannot win is stopped."""
