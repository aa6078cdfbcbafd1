"""The toy space: which terms fit a noisy curve, and go on rightly beyond the points?"""

from pathlib import Path

from asi_arch.records import Stage
from asi_arch.space import MetricSpec, Space

CONTRACT = """\
A candidate is a Python literal, read and never run: an optional docstring and

    RULE = {"terms": [{"kind": "wave", "frequency": 5.0, "phase": 0.0}, ...]}

Each term is a function of x, and may have a "gain" of 0.01 to 100 (1 without it):

    power  x ** degree                       degree 1 to 8
    wave   sin(frequency * x + phase)        frequency 0.25 to 16, phase -4 to 4
    hinge  max(0, x - at)                    at -2 to 2
    bump   exp(-((x - at) / width) ** 2)     at -2 to 2, width 0.05 to 2

The weighted sum of the terms and a constant is fitted to 32 noisy points in -1..1 by gradient
descent. All terms together may cost 64 FLOPs a value: power 6, wave 12, hinge 4, bump 13.
"""

# Scales: sqrt(2) times the sd over 40 seeds, pooled over line, parabola and wave.
SPACE = Space(
    name="toy",
    title="Terms that fit a curve",
    folder=Path(__file__).parent,
    contract=CONTRACT,
    seed="line",
    references=("lookup_table",),
    metrics=(
        MetricSpec(
            name="inside",
            title="error inside",
            unit="",
            higher_is_better=False,
            scale={"explore": 0.036, "replicate": 0.028},
        ),
        MetricSpec(
            name="outside",
            title="error outside",
            unit="",
            higher_is_better=False,
            scale={"explore": 0.28, "replicate": 0.38},
        ),
    ),
    stages={
        "explore": Stage(name="explore", steps=60, learning_rate=0.5),
        "replicate": Stage(name="replicate", steps=240, learning_rate=0.5),
    },
    engine="asi_arch.spaces.toy.engine:examine",
    grammar="asi_arch.spaces.toy.grammar:grammar",
    hostile=False,
)
