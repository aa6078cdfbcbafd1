"""A brief as text, for whoever reads before designing: a language model, or a coding agent.

Texts here hold no times and no dates, so that a recorded conversation can be replayed.
"""

import re
from collections.abc import Mapping, Sequence

from asi_arch.papers import Cognition
from asi_arch.records import Brief, Cost, Evidence, Experiment, Failure, Repeat, Verdict
from asi_arch.researcher.offers import offers
from asi_arch.search.behaviour import RECENT, most_used
from asi_arch.space import MetricSpec

EQUAL = 1e-9  # a gain this small is rounding: of the seed over its own mean
OPS = "asi_arch.ops"
ORTHOGONAL = 2  # refusals after which a design of another kind is asked for
SIZES = {
    "mixer_parameters": "parameters of one layer's mixer",
    "hidden_width": "SwiGLU width that was left",
    "flops_per_token": "FLOPs a token",
    "state_bytes": "bytes of decoding state",
}
_SPEED = re.compile(r"(, )?time of a mixer's step (?:[\d.]+ times as large|[+-]?\d+%)")
_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{6,}\b")
_SECONDS = re.compile(r"seconds of the mixer x ([\d.]+) \(limit ([\d.]+)\)")


def brief_text(
    brief: Brief, metrics: Sequence[MetricSpec], summaries: Mapping[int, str] | None = None
) -> str:
    """Give a brief as Markdown.

    Args:
        brief: of one proposal.
        metrics: the space's.
        summaries: of references, by id; a reference without one is shown with its own motivation.
    """
    parent = brief.parent
    sections = [
        ("Contract", brief.contract),
        (f"What {OPS} offers", offers() if OPS in brief.contract else ""),
        ("How designs are measured", measures(metrics)),
        (f"Parent: #{parent.id}", experiment_text(parent, metrics)),
        ("References", "\n\n".join(_reference(e, metrics, summaries or {}) for e in brief.references)),
        ("Findings of this study, newest first", _listed(brief.findings)),
        ("Knowledge from papers that may answer the parent's weaknesses",
         "\n\n".join(cognition_text(c) for c in brief.cognitions)),
        ("Tried nearby, and failed", _listed(brief.avoid)),
        ("No gain of late: an orthogonal design is wanted", _orthogonal(brief)),
        ("Your earlier proposals for this experiment, all refused", refusals(brief.repeats)),
    ]  # fmt: skip
    shown = [f"## {title}\n{body.strip()}" for title, body in sections if body.strip()]
    return "\n\n".join([f"# Brief of experiment {brief.id}", *shown])


def measures(metrics: Sequence[MetricSpec]) -> str:
    """Say which figures count, which way is better, and from where on a difference is more than noise."""
    lines = []
    for spec in metrics:
        unit = f" in {spec.unit}" if spec.unit else ""
        way = "higher" if spec.higher_is_better else "lower"
        noise = ", ".join(f"{scale:g} at {stage}" for stage, scale in spec.scale.items())
        lines.append(f"- {spec.title} ({spec.name}){unit}: {way} is better; noise of a difference {noise}")
    return "\n".join(
        [*lines, "Fitness is 0 to 1, from the gains over the seed; the seed itself is near 0.5."]
    )


def experiment_text(experiment: Experiment, metrics: Sequence[MetricSpec], source: bool = True) -> str:
    """Give what is known of an experiment: the idea, figures, what it taught, and its source."""
    proposal = experiment.proposal
    if proposal is None:
        return f"#{experiment.id} has no proposal."
    parents = ", ".join(f"#{id}" for id in proposal.parents)
    child = f", a child of {parents}" if parents else ""
    standing = f"{experiment.status} {experiment.kind} by {proposal.author}{child}"
    parts = [
        f"#{experiment.id} {proposal.name}: {standing}",
        results_text(experiment, metrics),
        f"Motivation: {timeless(proposal.motivation)}",
        f"Finding: {timeless(experiment.finding.text)}" if experiment.finding else "",
        *(
            f"An earlier source failed in {a.failure.phase}: {timeless(a.failure.message)}"
            for a in experiment.attempts
        ),
        failure_text(experiment.failure) if experiment.failure else "",
        f"Source:\n```python\n{proposal.source.strip()}\n```" if source else "",
    ]
    return "\n".join(part for part in parts if part)


def results_text(experiment: Experiment, metrics: Sequence[MetricSpec]) -> str:
    """Give an experiment's figures, means over its runs: scores, gains over the seed, sizes."""
    runs = [run for run in experiment.evidence if run.metrics]
    if not runs:
        return "Not measured."
    fitness = experiment.fitness
    lines = [f"Fitness {fitness.value:.3f}"] if fitness else []
    for spec in metrics:
        value = _mean([run.metrics[spec.name].value for run in runs])
        gain = fitness.gains.get(spec.name) if fitness else None
        way = "worse" if gain is not None and gain < 0 else "better"
        over = "" if gain is None else f", {abs(gain):.3g} {way} than the seed"
        over = ", the seed's own mean" if gain is not None and abs(gain) < EQUAL else over
        lines.append(f"- {spec.title} {value:.4g} {spec.unit}".rstrip() + over)
    last = runs[-1]
    if last.details:
        fine = ", ".join(f"{name.replace('_', ' ')} {m.value:.3g}" for name, m in last.details.items())
        lines.append(f"- in detail: {fine}")
    return "\n".join([*lines, *_sizes(last.cost)])


def cognition_text(cognition: Cognition) -> str:
    """Give a piece of a paper's knowledge, with the id by which a proposal names it."""
    paper = cognition.paper
    unread = (
        "; a model's summary that nobody has checked" if cognition.quotes and not cognition.checked else ""
    )
    return "\n".join(
        [
            f"[{cognition.id}] {cognition.title} ({paper.label}, {paper.year}{unread})",
            f"Helps when: {cognition.trigger}",
            f"Background: {cognition.background}",
            f"Method: {cognition.method}",
            f"Implementation: {cognition.implementation}",
            f"Effect: {cognition.effect}",
        ]
    )


def verdicts_text(evidence: Evidence) -> str:
    """Give every verdict on a source, and the failure with the tail of its trace."""
    lines = [verdict_text(v) for v in evidence.checks]
    failure = evidence.failure
    if failure is None:
        return "\n".join([*lines, "All checks passed."])
    return "\n".join([*lines, failure_text(failure)])


def verdict_text(verdict: Verdict) -> str:
    """Give a verdict in one line, without what was timed."""
    return f"{'passed' if verdict.passed else 'FAILED'} {verdict.name}: {timeless(verdict.message)}"


def failure_text(failure: Failure) -> str:
    """Give a failure: where, of which kind, the figure against its limit, the tail of the trace."""
    told = f"Failed in {failure.phase} ({failure.kind}): {timeless(failure.message)}"
    trace = timeless(failure.trace)
    return f"{told}\n{trace}" if trace else told


def refusals(repeats: Sequence[Repeat]) -> str:
    """Say what was proposed before and why it was refused; after some, ask for another kind of design."""
    lines = [f"- {repeat.name or 'a proposal'}: {repeat.reason or _same(repeat)}" for repeat in repeats]
    if len(repeats) >= ORTHOGONAL:
        lines.append(
            "Stop varying these. Give an orthogonal design: another mechanism, from another piece of "
            "knowledge, that shares no central component with any of the experiments named above."
        )
    return "\n".join(lines)


def _orthogonal(brief: Brief) -> str:
    """Ask for a design off the trodden path, and say what was trodden; "" where none is wanted."""
    if not brief.orthogonal:
        return ""
    used = ", ".join(sorted(most_used(trial.moves for trial in brief.trials[-RECENT:])))
    trodden = f" Of late most changes were to these: {used}." if used else ""
    return (
        "The study has gone on for long without a gain, and more of the same will not change that."
        f"{trodden} Give a design with another central mechanism than the parent's and the recent "
        "experiments': take the parent as a measure, and the references, wider than usual, as parts."
    )


def timeless(text: str) -> str:
    """Give a text without what was timed, or drawn by the machine.

    A measured time becomes what it says against its limit; an address in memory is left out.
    """
    text = _SECONDS.sub(_against, text)
    text = _ADDRESS.sub("0x...", text)
    text = _SPEED.sub("", text).replace(": , ", ": ")
    return re.sub(r" ?Cost against [^:.]+: ?\.", "", text).strip()


def _against(match: re.Match[str]) -> str:
    within = float(match[1]) <= float(match[2])
    return f"seconds of the mixer {'within' if within else 'above'} the limit of {match[2]} times the seed's"


def _same(repeat: Repeat) -> str:
    basis = repeat.basis or ("graph" if repeat.graph_hash else "program")
    return f"the same {basis} as experiment {repeat.of}"


def _reference(experiment: Experiment, metrics: Sequence[MetricSpec], summaries: Mapping[int, str]) -> str:
    summary = summaries.get(experiment.id)
    if summary is None:
        return experiment_text(experiment, metrics, source=False)
    name = experiment.name or "unnamed"
    return f"#{experiment.id} {name}\n{results_text(experiment, metrics)}\nSummary: {summary.strip()}"


def _sizes(cost: Cost) -> list[str]:
    sizes = [(title, getattr(cost, name)) for name, title in SIZES.items()]
    shown = ", ".join(f"{title} {size:,.0f}" for title, size in sizes if size)
    return [f"- {shown}"] if shown else []


def _listed(lines: Sequence[str]) -> str:
    return "\n".join(f"- {timeless(line)}" for line in lines)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
