"""The space of linear-attention mixers: what is searched, against what, and at which budgets."""

from pathlib import Path

from asi_arch.records import Stage
from asi_arch.space import MetricSpec, Space
from asi_arch.spaces.linear_attention.contract import CONTRACT

RECIPE = """\
D = 64, H = 2 (K = V = 32 if heads share D evenly), 2 layers, T = 64 tokens, 256 token values. A step has
8 rows of text (bytes of Python's standard library) and 8 of recall: 2, 4, 8 or 16 key-value pairs, then
queries for the rest of the row. AdamW (betas 0.9 and 0.98, weight decay 0.05 on matrices, gradients clipped
at 1), learning rate up to 0.012 at explore in a tenth of the steps and then down. The embedding is tied to
the output. A mixer keeps the initialisation that its __init__ gives. Training is short, so what it does from
there on counts."""

# Scales: sd of the difference of two single runs, sqrt(2) times the sd over seeds, pooled over seven
# mixers (3 seeds each at explore, 2 at replicate) of a prototype of this profile. Shared data order and
# initial embedding did not make it smaller. A mixer in the middle of learning recall is noisier than this.
SPACE = Space(
    name="linear_attention",
    title="Linear attention: token mixers with constant memory",
    folder=Path(__file__).parent,
    contract=CONTRACT,
    seed="delta_net",
    references=("softmax_attention",),
    metrics=(
        MetricSpec(
            name="bits_per_byte",
            title="text",
            unit="bits/byte",
            higher_is_better=False,
            scale={"explore": 0.037, "replicate": 0.030},
        ),
        MetricSpec(
            name="recall_nll",
            title="recall",
            unit="nats",
            higher_is_better=False,
            scale={"explore": 0.37, "replicate": 0.18},
        ),
    ),
    stages={
        "trial": Stage(name="trial", steps=100, learning_rate=1.2e-2),  # for `check`: opens learned leaks
        "explore": Stage(name="explore", steps=500, learning_rate=1.2e-2),
        "replicate": Stage(name="replicate", steps=1000, learning_rate=1e-2),
    },
    engine="asi_arch.engineer.examine:examine",
    grammar="asi_arch.spaces.linear_attention.grammar:linear_attention_grammar",
    model="asi_arch.spaces.linear_attention.model",
    recipe=RECIPE,
    warm_up=0.1,  # as the recipe of model.py has it, which a study cannot read without torch
)
