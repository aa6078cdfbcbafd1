"""Where changed components came from, by rule; their shares among groups of designs; which cognitions pay."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

from asi_arch.analyst.explain import first_line
from asi_arch.analyst.noise import Noise, about_mean, fit_noise
from asi_arch.analyst.statistics import mean
from asi_arch.provenance import ORIGINS, Attribution, Origin
from asi_arch.records import Experiment

MENTION = re.compile(r"(?:#|\bexperiment )(\d+)\b")
LEVEL = 0.95  # coverage of the intervals
LEAST = 3  # experiments from which on a mean gain has an interval
NO_DESIGN = ("author", "novelty")  # phases that end an experiment without a design of its own


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """How many components of a group of designs have one origin.

    count: of `components`, in `designs`. low, high: interval of the share; 0 and 1 for no component.
    """

    origin: Origin
    count: int
    components: int
    designs: int
    low: float
    high: float

    @property
    def value(self) -> float:
        """Give the share, 0..1; 0 of no component."""
        return self.count / self.components if self.components else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Payoff:
    """What experiments gained over their parents.

    cognition: the id that all of them rest on; "" for a group without one.
    experiments: ids of those with a gain, whose number is the n of the mean. unmeasured: of those without.
    decided: in how many of all the cognition decided a component, of the `told` of which that is known.
    mean: of the gains in fitness over the parent; None of none. low, high: its interval; None below
        `LEAST` experiments.
    """

    cognition: str
    experiments: tuple[int, ...]
    unmeasured: tuple[int, ...]
    decided: int
    told: int
    mean: float | None
    low: float | None
    high: float | None


def attribute(experiment: Experiment) -> tuple[Attribution, ...]:
    """Give by rule where each changed component of an experiment's design came from.

    What was noted as a move was drawn stands. A design without moves is one component, by what its author
    stated: `cognition` when it names cognitions, else `analysis` when its motivation names experiments
    other than its parents, else `original`. Nothing for baselines, for ids that ended without
    a design of their own, and for moves of which no cause was noted, in archives from before.
    """
    proposal = experiment.proposal
    if experiment.kind != "candidate" or proposal is None or not proposal.source or not proposal.parents:
        return ()
    if experiment.failure is not None and experiment.failure.phase in NO_DESIGN:
        return ()
    if proposal.origins or proposal.moves:
        return proposal.origins
    named = tuple(dict.fromkeys(int(found) for found in MENTION.findall(proposal.motivation)))
    others = tuple(id for id in named if id not in (experiment.id, *proposal.parents))
    origin: Origin = "cognition" if proposal.cognitions else "analysis" if others else "original"
    reasons = {
        "cognition": f"its author names {', '.join(proposal.cognitions)}",
        "analysis": f"its author names {', '.join(f'#{id}' for id in others)} and no cognition",
        "original": "its author names no cognition and no experiment but its parents",
    }
    return (
        Attribution(
            component=first_line(proposal.source) or proposal.name,
            origin=origin,
            basis="stated",
            reason=reasons[origin],
            cognitions=proposal.cognitions if origin == "cognition" else (),
            experiments=others if origin == "analysis" else (),
        ),
    )


def known_attribution(experiment: Experiment) -> tuple[Attribution, ...]:
    """Give an ended experiment's attribution as recorded; by rule where an older archive has none."""
    return experiment.attribution or attribute(experiment)


def shares(experiments: Sequence[Experiment]) -> tuple[Share, ...]:
    """Give the share of each origin among the components of some designs.

    The interval is Wilson's, at `LEVEL`, with the number of designs in place of that of components: the
    components of one design are not independent, and it holds even if they all had one origin.
    Source: E. B. Wilson, J. Am. Stat. Assoc. 22 (1927) 209.
    """
    known = [found for e in experiments if (found := known_attribution(e))]
    components = [one.origin for found in known for one in found]
    return tuple(_share(origin, components.count(origin), len(components), len(known)) for origin in ORIGINS)


def apart(one: Share, other: Share) -> tuple[float, float, float]:
    """Give how much larger one share is than another, with the low and high end of the interval.

    Source: R. G. Newcombe, Statistics in Medicine 17 (1998) 873, method 10.
    """
    difference = one.value - other.value
    down = math.hypot(one.value - one.low, other.high - other.value)
    up = math.hypot(one.high - one.value, other.value - other.low)
    return difference, difference - down, difference + up


def payoffs(experiments: Sequence[Experiment]) -> tuple[Payoff, ...]:
    """Give what the ended candidates gained that rest on each cognition, the most used first.

    An experiment counts for every cognition that its proposal names. First stand those of all
    candidates together, named "all", and of those that rest on none, named "". The intervals are of
    `LEVEL`, by the noise of a cognition's own gains drawn towards that of all (`noise.fit_noise`, in which
    each experiment counts once, under the first cognition that it names).
    """
    by_id = {e.id: e for e in experiments}
    ended = [e for e in experiments if e.kind == "candidate" and known_design(e)]
    using: dict[str, list[Experiment]] = {}
    for e in ended:
        for id in dict.fromkeys(e.proposal.cognitions if e.proposal else ()):
            using.setdefault(id, []).append(e)
    ranked = sorted(using.items(), key=lambda item: (-len(item[1]), item[0]))
    free = [e for e in ended if e.proposal and not e.proposal.cognitions]
    groups = [("all", ended), ("", free), *ranked]
    noise = _noise(ended, by_id)
    return tuple(_payoff(name, group, by_id, noise) for name, group in groups)


def known_design(experiment: Experiment) -> bool:
    """Tell whether an experiment has ended with a design of its own that has a parent."""
    failure, proposal = experiment.failure, experiment.proposal
    if experiment.status not in ("finished", "failed") or proposal is None or not proposal.parents:
        return False
    return bool(proposal.source) and (failure is None or failure.phase not in NO_DESIGN)


def _share(origin: Origin, count: int, components: int, designs: int) -> Share:
    if not components:
        return Share(origin=origin, count=0, components=0, designs=0, low=0.0, high=1.0)
    p, z = count / components, NormalDist().inv_cdf((1 + LEVEL) / 2)
    middle = (p + z * z / (2 * designs)) / (1 + z * z / designs)
    reach = z * math.sqrt(p * (1 - p) / designs + z * z / (4 * designs**2)) / (1 + z * z / designs)
    low, high = max(0.0, min(p, middle - reach)), min(1.0, max(p, middle + reach))
    return Share(origin=origin, count=count, components=components, designs=designs, low=low, high=high)


def _noise(ended: Sequence[Experiment], by_id: Mapping[int, Experiment]) -> Noise | None:
    """Give what the gains say of their noise; None where no two of one group differ."""
    groups: dict[str, list[float]] = {}
    for e in ended:
        gain, named = _gain(e, by_id), e.proposal.cognitions if e.proposal else ()
        if gain is not None:
            groups.setdefault(named[0] if named else "", []).append(gain)
    if not any(len(set(group)) > 1 for group in groups.values()):
        return None
    return fit_noise(groups.values())


def _payoff(
    name: str, group: Sequence[Experiment], by_id: Mapping[int, Experiment], noise: Noise | None
) -> Payoff:
    gains = {e.id: found for e in group if (found := _gain(e, by_id)) is not None}
    values = list(gains.values())
    centre = mean(values) if values else None
    held = noise is not None and len(values) >= LEAST
    reach = about_mean(noise, values).margin(LEVEL) if noise is not None and held else None
    told = [known for e in group if (known := known_attribution(e))]
    return Payoff(
        cognition=name,
        experiments=tuple(gains),
        unmeasured=tuple(e.id for e in group if e.id not in gains),
        decided=sum(any(name in one.cognitions for one in known) for known in told),
        told=len(told),
        mean=centre,
        low=None if centre is None or reach is None else centre - reach,
        high=None if centre is None or reach is None else centre + reach,
    )


def _gain(experiment: Experiment, by_id: Mapping[int, Experiment]) -> float | None:
    """Give an experiment's fitness less its parent's; None where one of them has none."""
    assert experiment.proposal is not None
    parent = by_id.get(experiment.proposal.parents[0])
    if experiment.fitness is None or parent is None or parent.fitness is None:
        return None
    return experiment.fitness.value - parent.fitness.value
