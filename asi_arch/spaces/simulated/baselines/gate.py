"""A gate: the first change that anyone tries."""

STEPS = ["seed", "add_gate"]
