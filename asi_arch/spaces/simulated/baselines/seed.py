"""The seed: nothing was changed yet."""

STEPS = ["seed"]
