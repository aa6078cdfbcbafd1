"""What a proposal repeats, found before anything is trained, and how its author is told."""

from collections.abc import Iterable
from dataclasses import replace

from asi_arch.records import Experiment, Proposal, Repeat
from asi_arch.researcher.novelty import source_hash


def known_programs(experiments: Iterable[Experiment]) -> dict[str, int]:
    """Give the experiment of every program that was ever proposed or tried, by the hash of its source."""
    found: dict[str, int] = {}
    for experiment in experiments:
        for repeat in experiment.repeats:
            found.setdefault(repeat.source_hash, repeat.of)
        for attempt in experiment.attempts:
            found.setdefault(source_hash(attempt.source), experiment.id)
        if experiment.proposal is not None:
            found.setdefault(source_hash(experiment.proposal.source), experiment.id)
    return found


def repeat_of(proposal: Proposal, first: int, basis: str, reason: str = "", graph_hash: str = "") -> Repeat:
    """Give the note that a proposal repeats an experiment. reason: what else there is to say of it."""
    told = f"the same {basis} as experiment {first}"
    return Repeat(
        of=first,
        source_hash=source_hash(proposal.source),
        graph_hash=graph_hash,
        moves=proposal.moves,
        basis=basis,
        name=proposal.name,
        reason=f"{told}: {reason}" if reason else told,
    )


def refused(experiment: Experiment, proposal: Proposal, repeat: Repeat) -> Experiment:
    """Give an experiment whose proposal repeats another: claimed as before, with the repeat noted."""
    repeats = (*experiment.repeats, repeat)
    return replace(experiment, status="claimed", proposal=proposal, evidence=(), repeats=repeats)
