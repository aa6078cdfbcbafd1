"""One experiment, told in parts: why, what changed, what the checks said, what came out, what it taught."""

from collections.abc import Iterable, Sequence

from asi_arch.analyst.fitness import gain
from asi_arch.analyst.statistics import mean
from asi_arch.calls import Call
from asi_arch.records import Evidence, Experiment, Verdict
from asi_arch.report.authorship import (
    attempt_parts,
    brief_part,
    call_parts,
    failure_line,
    finding_part,
    judgement_part,
    refused_part,
)
from asi_arch.report.parts import Part, difference
from asi_arch.report.provenance import attribution_part
from asi_arch.report.tables import Table, figure, gain_cell, heading, words
from asi_arch.report.view import View, cost_of, cpu_seconds, is_stopped, standing
from asi_arch.space import MetricSpec


def tell(view: View, experiment: Experiment, calls: Sequence[Call] = ()) -> list[Part]:
    """Give the parts of an experiment's story; what is not known yet has no part.

    calls: of language models, for this experiment.
    """
    proposal = experiment.proposal
    parts = [Part(title=f"#{experiment.id} {experiment.name}", body=_state(view, experiment))]
    title = "stopped early" if is_stopped(experiment) else "failure"
    failed = [Part(title=title, body=failure_line(experiment.failure))] if experiment.failure else []
    if proposal is None or not proposal.source:  # none yet, or an agent is at it
        return [*parts, *failed, *call_parts(calls)]
    parts += brief_part(calls) + refused_part(experiment)
    parts.append(Part(title="motivation", body=proposal.motivation or "none given"))
    parent = next((e for e in view.experiments if e.id in proposal.parents[:1]), None)
    if parent is not None and parent.proposal is not None:
        names = (f"#{parent.id} {parent.proposal.name}", f"#{experiment.id} {proposal.name}")
        body = difference(parent.proposal.source, proposal.source, *names)
        parts.append(Part(title=f"difference to #{parent.id}", body=body, is_diff=True))
    parts += attribution_part(experiment)
    parts += attempt_parts(experiment)
    verdicts = [v for run in experiment.evidence for v in run.checks]
    if verdicts:
        parts.append(Part(title="checks", body=checks_table(verdicts)))
    if view.runs(experiment):
        parts.append(Part(title="scores", body=_scores(view, experiment, parent)))
        parts.append(Part(title="details and cost", body=_figures(view, experiment)))
    parts += failed
    return parts + judgement_part(experiment) + finding_part(experiment) + call_parts(calls)


def checks_table(verdicts: Iterable[Verdict]) -> Table:
    """Give every check once, with the last verdict on it."""
    last = {v.name: v for v in verdicts}
    rows = tuple((v.name, "passed" if v.passed else "FAILED", v.message) for v in last.values())
    return Table(columns=("check", "verdict", "measured"), rows=rows, text_columns=3)


def _state(view: View, experiment: Experiment) -> str:
    proposal = experiment.proposal
    lines = [f"{view.kind(experiment)}, {standing(experiment)}"]
    if experiment.fitness is not None:
        terms = ", ".join(f"{words(name)} {value:.3f}" for name, value in experiment.fitness.terms.items())
        lines[0] += (
            f" with fitness {experiment.fitness.value:.3f} (terms of {experiment.fitness.formula}: {terms})"
        )
    if proposal is not None:
        lines.append(f"author {proposal.author}")
        for noun, ids in (("parent", proposal.parents), ("references", proposal.references)):
            lines += [f"{noun} {', '.join(f'#{i}' for i in ids)}"] if ids else []
        lines += [f"moves {', '.join(words(m) for m in proposal.moves)}"] if proposal.moves else []
        lines += [f"rests on {', '.join(proposal.cognitions)}"] if proposal.cognitions else []
    return "\n".join(lines)


def _scores(view: View, experiment: Experiment, parent: Experiment | None) -> Table:
    runs, seed = view.runs(experiment), view.seed_runs()
    before = view.runs(parent) if parent is not None else ()
    rows = tuple(_score(spec, runs, before, seed) for spec in view.space.metrics)
    columns = ("metric", "value", "error of evaluation", "gain over parent", "gain over seed ±noise")
    return Table(columns=columns, rows=rows)


def _score(
    spec: MetricSpec, runs: Sequence[Evidence], parent: Sequence[Evidence], seed: Sequence[Evidence]
) -> tuple[str, ...]:
    metrics = [run.metrics[spec.name] for run in runs]
    over_parent = f"{mean(gain(spec, run, parent) for run in runs):+.3f}" if parent else "-"
    return (
        heading(spec),
        figure(mean(m.value for m in metrics)),
        figure(mean(m.standard_error for m in metrics)),
        over_parent,
        gain_cell(spec, runs, seed) if seed else "-",
    )


def _figures(view: View, experiment: Experiment) -> Table:
    last, cost = view.runs(experiment)[-1], cost_of(experiment)
    rows = [(words(name), figure(metric.value)) for name, metric in last.details.items()]
    rows += [(words(name), figure(getattr(cost, name))) for name in cost.__slots__ if getattr(cost, name)]
    rows.append(("processor seconds", figure(cpu_seconds(experiment))))
    return Table(columns=("figure", "value"), rows=tuple(rows))
