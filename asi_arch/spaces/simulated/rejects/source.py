"""Not a literal: it would have to be run."""

STEPS = sorted({"seed"})
