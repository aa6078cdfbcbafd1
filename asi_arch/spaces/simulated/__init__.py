"""A cheap landscape fitted to the published search, on which policies and budgets are compared."""
