"""What decided each move of the symbolic researcher: the draw is made again without one cause after another.

Nothing here draws anew: the same dice are read again, so that noting a cause changes no proposal.
"""

from collections.abc import Callable, Mapping, Sequence

from asi_arch.provenance import Attribution, Origin
from asi_arch.records import Brief, Experiment
from asi_arch.researcher.learning import track_record

Chain = Callable[[Mapping[str, float]], frozenset[str]]
"""Gives the names of the moves that would be made if the moves had these scores, with the same dice."""


def attributions(
    brief: Brief,
    made: Sequence[tuple[str, Experiment | None, tuple[str, ...]]],
    chain: Chain,
    effects: Mapping[str, float],
    unlearned: Mapping[str, float],
) -> tuple[Attribution, ...]:
    """Give what decided each move of a proposal.

    A move is from `cognition` when a cognition of the brief backs it and without the bonus for that it would
    not have been made; else from `analysis` when it takes a part of another experiment, when the
    study closed the trodden families, or when it would not have been made had the trials said nothing;
    else it is `original`: the dice alone would have made it.

    Args:
        brief: of the proposal.
        made: name, experiment that a part was taken from, and ids of the cognitions that back the move.
        chain: makes the draw again.
        effects: drawn for each move, from what was learned, without any bonus.
        unlearned: what the same dice would have drawn before any trial.
    """
    record = track_record(brief.trials)
    unbacked, bare = chain(effects), chain(unlearned)
    found = []
    for name, source, backed in made:
        if backed and name not in unbacked:
            reason = f"without the weight of {', '.join(backed)} it would not have been drawn"
            found.append(_noted(name, "cognition", reason, backed))
        elif source is not None:
            reason = f"it takes a part of experiment {source.id}, which the study measured"
            found.append(_noted(name, "analysis", reason, experiments=(source.id,)))
        elif brief.orthogonal and brief.trials:
            reason = "the study gained nothing any more, and closed the kinds of moves that it had used most"
            found.append(_noted(name, "analysis", reason))
        elif name not in bare:
            reason = f"what the study's trials say decided; of this move, {_tried(record.get(name))}"
            found.append(_noted(name, "analysis", reason))
        else:
            spoke = f"; {', '.join(backed)} spoke for it and did not decide" if backed else ""
            found.append(_noted(name, "original", f"chance alone would have drawn it{spoke}"))
    return tuple(found)


def _noted(
    component: str,
    origin: Origin,
    reason: str,
    cognitions: tuple[str, ...] = (),
    experiments: tuple[int, ...] = (),
) -> Attribution:
    return Attribution(
        component=component,
        origin=origin,
        basis="drawn",
        reason=reason,
        cognitions=cognitions,
        experiments=experiments,
    )


def _tried(record: tuple[int, int, float] | None) -> str:
    if record is None:
        return "none: those tried before it did worse than one hopes of an untried one"
    trials, failed, gain = record
    count = "one trial" if trials == 1 else f"{trials} trials"
    if failed == trials:
        return f"{count}, all failed"
    return f"{count} with a mean gain of {gain:+.3f}" + (f", {failed} failed" if failed else "")
