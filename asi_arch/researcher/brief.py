"""Assemble a brief: from the archive's records, what a researcher is told for one proposal."""

import random
from collections.abc import Callable, Iterable, Sequence

from asi_arch.papers import Cognition
from asi_arch.records import Brief, Experiment, Trial
from asi_arch.researcher.novelty import source_hash
from asi_arch.search.budgets.base import STOPPED
from asi_arch.settings import Settings, is_without

Recall = Callable[[str, int], tuple[Cognition, ...]]

WIDER = 3  # cognitions are drawn from this many times the wanted number, so that briefs of one parent differ


def make_brief(
    *,
    id: int,
    seed: int,
    attempt: int,
    parent: Experiment,
    references: Sequence[Experiment],
    experiments: Sequence[Experiment],
    recall: Recall,
    contract: str,
    settings: Settings,
    orthogonal: bool = False,
) -> Brief:
    """Give the brief of one proposal; equal arguments give equal briefs.

    Args:
        id: the claimed id of the experiment that the proposal will be; it seeds all draws.
        seed: the study's seed.
        attempt: 0, then one more each time that this id's proposal repeated something known.
        parent: a finished experiment with a proposal.
        references: finished experiments that the proposal may take parts from.
        experiments: all so far, of every kind and status, in any order.
        recall: gives up to k cognitions for a query, the nearest first.
        contract: the space's contract in words.
        settings: how many findings and cognitions a brief holds, and what the study does without.
        orthogonal: the proposal should leave the trodden path.
    """
    known = () if is_without(settings, "novelty") else _programs(experiments)
    explained = not is_without(settings, "analyst")
    wanted = 0 if is_without(settings, "cognition") else settings.num_cognitions
    return Brief(
        id=id,
        seed=seed,
        attempt=attempt,
        parent=parent,
        contract=contract,
        references=tuple(references),
        findings=_findings(parent, references, experiments, settings.num_findings) if explained else (),
        cognitions=_cognitions(recall, weakness(parent), wanted, f"{seed}/{id}/cognitions"),
        trials=trials(experiments) if explained else (),
        avoid=_avoid(parent, experiments, settings.num_findings),
        known=frozenset(known),
        orthogonal=orthogonal,
    )


def _programs(experiments: Iterable[Experiment]) -> Iterable[str]:
    return (source_hash(e.proposal.source) for e in experiments if e.proposal)


def trials(experiments: Iterable[Experiment]) -> tuple[Trial, ...]:
    """Give what each set of moves did: one trial for each ended child of a measured parent.

    A repeated program is no trial: it says nothing of whether its moves pay.
    """
    by_id = {e.id: e for e in experiments}
    found = []
    for child in sorted(by_id.values(), key=lambda e: e.id):
        proposal = child.proposal
        if proposal is None or not proposal.moves or not proposal.parents:
            continue
        parent = by_id.get(proposal.parents[0])
        if child.failure is not None and child.failure.phase != "novelty":
            found.append(Trial(moves=proposal.moves, gain=None, failed=child.failure.phase))
        elif child.fitness is not None and parent is not None and parent.fitness is not None:
            found.append(Trial(moves=proposal.moves, gain=child.fitness.value - parent.fitness.value))
    return tuple(found)


def weakness(parent: Experiment) -> str:
    """Give the words that recall cognitions for a parent: its finding's query, then its weaker tasks.

    The tasks come weakest first, by the terms of its fitness, so the weakest weighs at least as much
    as the words that the analyst chose.
    """
    query = parent.finding.query if parent.finding else ""
    if parent.fitness is None:
        return query
    measured = parent.fitness.gains
    terms = {name: parent.fitness.terms.get(name, measured[name]) for name in measured}
    weakest = sorted(terms, key=lambda name: (terms[name], name))[:2]
    return " ".join([query, *(name.replace("_", " ") for name in weakest)]).strip()


def _findings(
    parent: Experiment, references: Sequence[Experiment], experiments: Sequence[Experiment], limit: int
) -> tuple[str, ...]:
    """Give findings, newest first: those of parent, its children and the references before others."""
    near = {parent.id, *(r.id for r in references), *(e.id for e in experiments if _child(e, parent))}
    known = [e for e in experiments if e.finding is not None and e.finding.text]
    kept = sorted(known, key=lambda e: (e.id != parent.id, e.id not in near, -e.id))[:limit]
    return tuple(e.finding.text for e in sorted(kept, key=lambda e: -e.id) if e.finding)


def _avoid(parent: Experiment, experiments: Sequence[Experiment], limit: int) -> tuple[str, ...]:
    """Give what failed, children of this parent first, then the newest; not what was never proposed."""
    ended = [e for e in experiments if e.failure is not None and e.proposal is not None]
    failed = [e for e in ended if e.failure and e.failure.phase != "author"]
    kept = sorted(failed, key=lambda e: (not _child(e, parent), -e.id))[:limit]
    return tuple(_failed(e) for e in kept)


def _failed(experiment: Experiment) -> str:
    proposal, failure = experiment.proposal, experiment.failure
    assert proposal is not None
    assert failure is not None
    moves = f" ({', '.join(proposal.moves)})" if proposal.moves else ""
    if failure.phase == STOPPED:
        return f"#{experiment.id} {proposal.name}{moves} was {failure.message}"
    return f"#{experiment.id} {proposal.name}{moves} failed in {failure.phase}: {failure.message}"


def _child(experiment: Experiment, parent: Experiment) -> bool:
    return experiment.proposal is not None and parent.id in experiment.proposal.parents


def _cognitions(recall: Recall, query: str, wanted: int, seed: str) -> tuple[Cognition, ...]:
    """Give the nearest half of the wanted cognitions, and a draw from the next ones."""
    return draw_cognitions(recall(query, wanted * WIDER), wanted, seed) if wanted else ()


def draw_cognitions(found: Sequence[Cognition], wanted: int, seed: str) -> tuple[Cognition, ...]:
    """Give the first half of the wanted cognitions, and a draw from the others, in their order."""
    sure = tuple(found[: (wanted + 1) // 2])
    rest = list(found[len(sure) :])
    drawn = random.Random(seed).sample(rest, min(wanted - len(sure), len(rest)))
    return sure + tuple(sorted(drawn, key=rest.index))
