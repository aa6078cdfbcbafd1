"""There is no such change."""

STEPS = ["seed", "add_luck"]
