"""What is claimed of an experiment over its baselines: records that archive, report and faces share."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from asi_arch.records import Evidence, Split, Stage

Outcome = Literal["discovery", "open", "unproven", "refuted"]
Purpose = Literal["screen", "rate", "claim", "seconds", "part"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rerun:
    """A run of an experiment after it ended: to replicate it, or to take it apart.

    purpose: `screen` at the stage of the search with fresh seeds; `rate` to choose a learning rate at the
        next stage; `claim` there, at the chosen rate, with seeds that nothing was chosen by; `seconds` as
        `claim` with the steps that fit a baseline's seconds; `part` as `claim` without one change.
    part: name of the change that is taken away, or "". source: what is run then; "" for the experiment's.
    evidence: None before it was run; without a bundle.
    """

    experiment: int
    purpose: Purpose
    stage: Stage
    seed: int
    split: Split = "validation"
    part: str = ""
    source: str = ""
    evidence: Evidence | None = None

    @property
    def key(self) -> str:
        """Give what tells it from every other of its study."""
        stage = f"{self.stage.name}/{self.stage.steps}/{self.stage.learning_rate:g}"
        return f"{self.experiment}/{self.purpose}/{stage}/{self.seed}/{self.split}/{self.part}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A candidate's runs against one baseline's at one stage, taken as unpaired.

    baseline: id of its experiment. name: of its proposal.
    gain: difference of the two means, in the measure's unit; positive is better than the baseline.
    low, high: interval of the gain at the claim's `level`.
    p: of no gain, twice the one-sided probability, so that it agrees with the interval; 1 at no gain.
    freedom: degrees of freedom of the noise, on average over what is believed of it.
    standard_error: of the gain.
    seeds, baseline_seeds: runs on either side.
    cost: candidate's over baseline's by name (`parameters`, `flops_per_token`, `tokens_per_second`,
        `state_bytes`); a figure that either lacks is left out.
    """

    baseline: int
    name: str
    gain: float
    low: float
    high: float
    p: float
    freedom: float
    standard_error: float
    seeds: int
    baseline_seeds: int
    cost: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Whether an experiment beats every baseline, as measured after the search that chose it.

    measure: `fitness` or a metric's name. unit: of gains.
    seeds: those of its runs, none of which the search saw.
    planned: seeds that a power calculation asks for, as known now.
    comparisons: with every baseline, the hardest to beat first.
    p: the largest of the comparisons', since the claim is that it beats each (intersection-union test).
    adjusted_p: after Benjamini and Hochberg over all claims that were tested together.
    level: coverage of the intervals, such as 0.95; higher for a discovery among many claims.
    outcome: `discovery`; `open` while runs are missing; `unproven` when all that were planned are
        there and show no gain for sure; `refuted` when a baseline is better for sure.
    reason: in one sentence.
    """

    experiment: int
    name: str
    stage: str
    measure: str
    unit: str
    seeds: tuple[int, ...]
    planned: int
    comparisons: tuple[Comparison, ...]
    p: float
    adjusted_p: float
    level: float
    outcome: Outcome
    reason: str

    @property
    def hardest(self) -> Comparison | None:
        """Give the comparison that the claim hangs on; None while there is none."""
        return self.comparisons[0] if self.comparisons else None
