"""Learning curves whose early points say as little of the end as the published ones do."""

import random

STEPS = 2000
POINTS = 20  # at steps 100, 200, ..., 2000
WARM_UP = 0.5  # share of the steps in which the learning rate rises
SEED = (
    10.2672, 8.9668, 7.6759, 6.9723, 6.5817, 6.2187, 6.0636, 5.8536, 5.7077, 5.5162,
    5.3605, 5.2252, 5.1590, 4.9888, 4.9192, 4.9029, 4.7220, 4.6739, 4.6373, 4.5749,
)  # fmt: skip
"""DeltaNet's published loss at 20 M parameters, in nats (arXiv:2507.18074, App. B)."""

FACTORS = (
    (-0.270, -0.652, -0.656), (-0.490, -0.797, -0.234), (-0.612, -0.756, -0.020), (-0.675, -0.713, 0.053),
    (-0.737, -0.644, 0.078), (-0.808, -0.531, 0.176), (-0.876, -0.361, 0.243), (-0.929, -0.212, 0.215),
    (-0.962, -0.101, 0.166), (-0.968, 0.003, 0.112), (-0.965, 0.111, 0.054), (-0.970, 0.193, -0.016),
    (-0.957, 0.259, -0.038), (-0.935, 0.318, -0.069), (-0.923, 0.359, -0.083), (-0.894, 0.347, -0.066),
    (-0.889, 0.395, -0.078), (-0.890, 0.430, -0.100), (-0.862, 0.464, -0.136), (-0.837, 0.489, -0.163),
)  # fmt: skip
"""Loadings of three factors on the losses of 105 published runs, as normal scores at each of the 20 steps.

The first three principal components of the scores' correlations, which hold 96 % of their variance; what is
left at each point is independent. One published run is NaN and left out.
"""

LEFT = tuple(float(max(0.0, 1.0 - sum(f * f for f in loads)) ** 0.5) for loads in FACTORS)
"""Standard deviation that the factors leave at each step, of 1 in all."""

SPREAD = (
    8.00, 7.00, 7.50, 8.25, 7.50, 6.30, 5.50, 4.33, 3.46, 2.70,
    2.21, 1.76, 1.65, 1.47, 1.30, 1.29, 1.15, 1.07, 1.03, 1.00,
)  # fmt: skip
"""Standard deviation over runs at each step, in that at the end (published runs at 340 M parameters)."""

LOSS_AT, LOSS_SLOPE, LOSS_SPREAD = 4.600, -0.101, 0.072
"""Final loss at 20 M against the latent fitness u: 4.600 - 0.101 u, and 0.072 nats about it.

From 82 published models that have both (correlation -0.67, where all are survivors of the search).
"""
END_SPREAD = 0.097  # of the final loss over those models, in nats


def curve(u: float, draw: random.Random) -> tuple[tuple[int, float], ...]:
    """Give (step, loss) at 20 steps for a run whose measured latent fitness is u.

    The final loss is drawn given u, and the points before it given the final loss.
    """
    final = LOSS_AT + LOSS_SLOPE * u + draw.gauss(0.0, LOSS_SPREAD)
    end = (final - SEED[-1]) / END_SPREAD
    last = FACTORS[-1]
    free = [draw.gauss(0.0, 1.0) for _ in last]
    left = draw.gauss(0.0, LEFT[-1])
    shown = sum(f * z for f, z in zip(last, free, strict=True)) + left
    factors = [z + f * (end - shown) for f, z in zip(last, free, strict=True)]  # conditional on the end
    points = []
    for i, (loads, mean, spread) in enumerate(zip(FACTORS, SEED, SPREAD, strict=True)):
        height = sum(f * z for f, z in zip(loads, factors, strict=True)) + draw.gauss(0.0, LEFT[i])
        loss = final if i == POINTS - 1 else mean + END_SPREAD * spread * height
        points.append(((i + 1) * STEPS // POINTS, loss))
    return tuple(points)
