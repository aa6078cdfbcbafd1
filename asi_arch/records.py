"""What crosses a module's border: frozen records, and their one way to and from JSON.

Every noun is here once: researcher, engineer and analyst never import one another, they meet here.
"""

import hashlib
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal, TypeVar, cast

from asi_arch.papers import Cognition
from asi_arch.provenance import Attribution

Record = TypeVar("Record")
Split = Literal["train", "validation", "test"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a candidate has no score: kept, and shown to the next brief.

    phase: `author` (no proposal came), `novelty`, `source`, `contract`, `graph`, a check's name, `train`,
    `evaluate`, or `stopped`: no fault, but a run that the study's budget ended early (kind: which one).
    kind: a short word for machines, such as `syntax`, `timeout`, `memory`, `nan`, `duplicate`.
    message: one line for the author: what is wrong, where, and what would mend it.
    trace: the tail of the candidate's traceback, or "".
    """

    phase: str
    kind: str
    message: str
    trace: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One check's answer: measured value, limit and place, in one line.

    basis: `proven` for all inputs and weights by interpretation of the graph, `tested` on probes, or
    "" where the difference has no meaning.
    """

    name: str
    passed: bool
    message: str
    basis: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A measured score and the standard error of its evaluation, both in the metric's unit."""

    value: float
    standard_error: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a source costs at a stage; 0 where a space has no such figure.

    parameters: of the whole model. mixer_parameters: of one layer's mixer.
    hidden_width: the SwiGLU width that was solved to match the seed's parameters.
    flops_per_token: forward, whole model, every operator counted.
    state_bytes: decoding state of one sequence, all layers, fp32.
    tokens_per_second: in training, as measured (wall clock; noisy on a shared machine).
    peak_bytes: resident memory of the training process at its peak.
    relative_seconds: mixer's forward and backward over the seed's, same process; 1 is equal.
    """

    parameters: int = 0
    mixer_parameters: int = 0
    hidden_width: int = 0
    flops_per_token: float = 0.0
    state_bytes: int = 0
    tokens_per_second: float = 0.0
    peak_bytes: int = 0
    relative_seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """All that was measured of one source at one stage with one seed, or the failure.

    stage: a stage's name, or "checks" when nothing was trained.
    graph_hash: of the graphs that are trained; "" when the source never became a graph.
    function_hash: of what the graph computes from fixed parameters and inputs; "" while unknown.
    bundle: those graphs as JSON text; the archive keeps it once for each hash.
    curve: (step, training loss) pairs. metrics: by the names of `Space.metrics`.
    details: finer figures by name, such as the recall at each number of pairs.
    stopped_at: the step after which the study's budget ended the training (failure `stopped`); else 0.
    """

    stage: str
    seed: int
    source_hash: str
    graph_hash: str = ""
    function_hash: str = ""
    bundle: str = ""
    checks: tuple[Verdict, ...] = ()
    failure: Failure | None = None
    curve: tuple[tuple[int, float], ...] = ()
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    details: Mapping[str, Metric] = field(default_factory=dict)
    stopped_at: int = 0
    cost: Cost = Cost()
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """An architecture as source text, not yet measured.

    author: `baseline`, `symbolic`, `person`, `model` (the experiment's calls say which) or an agent's name.
    parents, references: experiment ids. cognitions: cognition ids that it rests on.
    moves: names of the changes against the parent, when the author thinks in moves.
    origins: what decided each move, noted as it was drawn; empty where the author notes no such thing.
    """

    name: str
    motivation: str
    source: str
    author: str
    parents: tuple[int, ...] = ()
    references: tuple[int, ...] = ()
    cognitions: tuple[str, ...] = ()
    moves: tuple[str, ...] = ()
    origins: tuple[Attribution, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitness:
    """One number made of named terms, each in 0..1, relative to the seed as measured here.

    gains: by metric, in the metric's unit, positive is better than the seed.
    """

    formula: str
    value: float
    terms: Mapping[str, float] = field(default_factory=dict)
    gains: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one result taught.

    text: sentences that the next brief can use. query: words that recall cognitions for it.
    sections: what an analyst that is a model said, by title; empty where findings are by rule.
    """

    text: str
    query: str = ""
    sections: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What a judge thinks of an architecture, from its code and figures alone; 5 is the seed.

    mark: 1..10, the median over the draws of each draw's mean over its aspects.
    spread: largest less smallest of those means; 0 is full agreement.
    draws: the marks of each draw by aspect. reasons: of each draw, in a sentence or two.
    """

    mark: float
    spread: float
    draws: tuple[Mapping[str, float], ...]
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeat:
    """A proposal that an experiment's id made and that was refused, because it repeats another.

    of: the experiment that it repeats. graph_hash: "" when its text was enough to tell.
    basis: what is the same: `program`, `graph`, `function` or `idea`; "" in archives from before.
    name: of the proposal. reason: in a sentence, for its author.
    """

    of: int
    source_hash: str
    graph_hash: str = ""
    moves: tuple[str, ...] = ()
    basis: str = ""
    name: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """A source of an experiment that failed and was mended: the next attempt's, or now the proposal's.

    evidence: all that was measured of it, without bundles. note: what the mender changed, and why.
    """

    source: str
    failure: Failure
    evidence: tuple[Evidence, ...] = ()
    note: str = ""


Kind = Literal["baseline", "reference", "candidate"]
Status = Literal["claimed", "proposed", "finished", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """Proposal, evidence, fitness and finding under one id, for ever.

    kind: `reference` rows are measured for comparison and are never parents.
    status: `claimed` has an id only; `proposed` has its source; `finished` has a fitness;
    `failed` has a failure.
    evidence: one for each (stage, seed) that was measured, in the order of measuring.
    repeats: what the id proposed before its proposal, in order; all refused as known.
    attempts: sources that failed and were mended, in order; the proposal holds the last source.
    attribution: where each changed component came from; empty while open, and where nobody can tell.
    settings: those in force at the proposal, by name.
    claimed_at, ended_at: seconds since the epoch; 0 when not yet.
    """

    id: int
    kind: Kind
    status: Status
    proposal: Proposal | None = None
    evidence: tuple[Evidence, ...] = ()
    failure: Failure | None = None
    fitness: Fitness | None = None
    finding: Finding | None = None
    judgement: Judgement | None = None
    repeats: tuple[Repeat, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    attribution: tuple[Attribution, ...] = ()
    settings: Mapping[str, int | float | str] = field(default_factory=dict)
    claimed_at: float = 0.0
    ended_at: float = 0.0

    @property
    def name(self) -> str:
        """Give the proposal's name; "" while there is none."""
        return self.proposal.name if self.proposal else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What a set of moves did once: the raw material of learning which moves pay.

    gain: child's fitness minus its parent's; None when the child failed. failed: the phase.
    """

    moves: tuple[str, ...]
    gain: float | None
    failed: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Brief:
    """What a researcher is told for one proposal. The id is the random seed of the proposal.

    attempt: 0, then one more each time that the proposal repeated something known.
    findings: newest first. avoid: what was tried and failed nearby, in words.
    known: source hashes that need not be proposed again.
    repeats: what this id proposed already and was refused, in order.
    orthogonal: the study gains nothing any more, so this proposal should leave the trodden path.
    """

    id: int
    seed: int
    parent: Experiment
    contract: str
    references: tuple[Experiment, ...] = ()
    findings: tuple[str, ...] = ()
    cognitions: tuple[Cognition, ...] = ()
    trials: tuple[Trial, ...] = ()
    avoid: tuple[str, ...] = ()
    known: frozenset[str] = frozenset()
    repeats: tuple[Repeat, ...] = ()
    attempt: int = 0
    orthogonal: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A budget at which a source is measured. learning_rate: the schedule's peak."""

    name: str
    steps: int
    learning_rate: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """After `step` a run goes on only if its training loss over the last points is at most `loss`."""

    step: int
    loss: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StopRule:
    """When a run is to be stopped: all of a budget that a training process needs.

    budget: its name. window: points of the curve that are averaged. bars: by rising step.
    reason: in words, why a run that misses a bar is stopped.
    """

    budget: str
    window: int
    bars: tuple[Bar, ...]
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One piece of work for a pool: check a source, and train it when a stage is given.

    space: its name, for `space.load_space`. bundle: graphs from an earlier check of the same
    source, so that it need not be translated again; "" to translate.
    enforce: False trains in spite of failed checks, which stay on record: for reference rows.
    reference: the seed's mean of each metric in this study, for a candidate's training; a score far
        better than that is examined before it counts. Empty: none is.
    split: of the data that scores it; `test` for claims only.
    """

    space: str
    name: str
    source: str
    seed: int = 0
    stage: Stage | None = None
    bundle: str = ""
    enforce: bool = True
    reference: Mapping[str, float] = field(default_factory=dict)
    stop: StopRule | None = None
    split: Split = "validation"


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a job is. phase: `translate`, `check`, `train`, `evaluate`. done, total: in steps."""

    phase: str
    done: int = 0
    total: int = 0
    note: str = ""


def text_hash(text: str) -> str:
    """Give the first 16 hex digits of the SHA-256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@cache
def _adapter(kind: Hashable) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(cast("Any", kind))


def to_json(record: object) -> str:
    """Give a record of this module as JSON text. Floats keep every bit and must be finite."""
    return str(_adapter(cast("Hashable", type(record))).dump_json(record), "utf-8")


def from_json(kind: type[Record], text: str | bytes) -> Record:
    """Give the record of `kind` that `to_json` wrote.

    Raises:
        pydantic.ValidationError: the text is no such record.
    """
    record: Record = _adapter(cast("Hashable", kind)).validate_json(text)
    return record
