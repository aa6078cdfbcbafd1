"""What decided each move of the symbolic researcher: the draw is made again without one cause after another.

Nothing here draws anew: the same dice are read again, so that noting a cause changes no proposal.
"""

from collections.abc import Callable, Sequence

from asi_arch.provenance import Attribution, Origin
from asi_arch.records import Brief, Experiment
from asi_arch.researcher.learning import track_record

Chain = Callable[[bool, bool], frozenset[str]]
"""Gives the names of the moves that the same dice make, with or without what trials taught (first) and the
weight of cognitions (second)."""

Made = tuple[str, Experiment | None, tuple[str, ...]]
"""A move's name, the experiment that it took a part from, and ids of the cognitions that back it."""


def attributions(brief: Brief, made: Sequence[Made], chain: Chain) -> tuple[Attribution, ...]:
    """Give what decided each move of a proposal.

    A move is from `cognition` when a cognition of the brief backs it, and the draw would not have made it
    without the weight of that; else from `analysis` when it takes a part of another experiment, when the
    study had closed its usual kinds of moves, or when the draw would not have made it had the trials
    said nothing; else it is `original`. A move that is made only because one before it let it apply is
    asked for its own cause, with that one in place.

    Args:
        brief: of the proposal.
        made: its moves, in order.
        chain: makes the draw again.
    """
    record = track_record(brief.trials)
    unbacked, unlearned, bare = chain(True, False), chain(False, True), chain(False, False)
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
        elif name not in (bare if name in unbacked else unlearned):
            reason = f"what the study's trials say decided; of this move, {_tried(record.get(name))}"
            found.append(_noted(name, "analysis", reason))
        else:
            spoke = f"; {', '.join(backed)} spoke for it and did not decide" if backed else ""
            found.append(_noted(name, "original", f"chance alone drew it{spoke}"))
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
