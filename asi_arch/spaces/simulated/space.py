"""The simulated space: a search like the published one, at no cost, on which policies are compared."""

from pathlib import Path

from asi_arch.records import Stage
from asi_arch.space import MetricSpec, Space

CONTRACT = """\
Nothing is trained in this space: what a change brings is drawn from a distribution that was fitted to the
published search. A candidate is a Python literal, read and never run: an optional docstring and

    STEPS = ["seed", "add_gate", "turn_norm", ...]

After the first word, a step is one of add, turn, drop, an underscore, and one of gate, decay, state, path,
norm, convolution; there may be 400. The order counts, and a design that extends another inherits most of
its quality.
"""

# Scale: sqrt(2) times the noise of a run, at the middle of the published late scores.
SPACE = Space(
    name="simulated",
    title="A landscape fitted to a published search",
    folder=Path(__file__).parent,
    contract=CONTRACT,
    seed="seed",
    metrics=(
        MetricSpec(
            name="score",
            title="published fitness",
            unit="",
            higher_is_better=True,
            scale={"explore": 0.35, "replicate": 0.25},
        ),
    ),
    stages={
        "explore": Stage(name="explore", steps=2000, learning_rate=3e-4),
        "replicate": Stage(name="replicate", steps=4000, learning_rate=3e-4),
    },
    engine="asi_arch.spaces.simulated.engine:examine",
    grammar="asi_arch.spaces.simulated.grammar:grammar",
    hostile=False,
)
