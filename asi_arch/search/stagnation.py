"""Stagnation: no new best for a while, noticed and answered."""

from collections.abc import Sequence
from dataclasses import dataclass

from asi_arch.search.selection.base import Choice, Member, draw_of, parents_of, value
from asi_arch.settings import Settings

ORTHOGONAL = 0.5  # share of the proposals of an episode that leave the trodden path; the others go on
WIDER = 2  # times as many references


@dataclass(frozen=True, slots=True, kw_only=True)
class Episode:
    """A time without a gain. best: id that leads. since: result of the last gain. results: since then."""

    best: int
    since: int
    results: int

    def told(self) -> str:
        """Say it in one line."""
        return (
            f"no gain in {self.results} experiments since #{self.best}: "
            "every second proposal now gets wider references and an orthogonal brief"
        )


def episode_of(members: Sequence[Member], settings: Settings) -> Episode | None:
    """Give the episode in which a study is; None while it gains, or `patience` is 0.

    A gain is a fitness above all before it, in the order in which the experiments ended; baselines and
    the cold start of the paper's policy count like others. Fitness is as known now, so a best that was
    luck and fell back when it was replicated does not stop others from being a gain.
    """
    if not settings.patience:
        return None
    ended = max((m.result for m in members), default=0)
    leader: Member | None = None
    for member in sorted(parents_of(members), key=lambda m: (m.result, m.id)):
        if leader is None or value(member) > value(leader):
            leader = member
    if leader is None or ended - leader.result < settings.patience:
        return None
    return Episode(best=leader.id, since=leader.result, results=ended - leader.result)


def is_orthogonal(episode: Episode | None, settings: Settings, id: int) -> bool:
    """Tell whether a proposal of an episode leaves the trodden path: drawn by its id."""
    return episode is not None and draw_of(settings, id, "orthogonal").random() < ORTHOGONAL


def widened(choice: Choice, members: Sequence[Member], settings: Settings, id: int) -> Choice:
    """Give a choice with twice as many references, drawn evenly from all that finished, whatever its rank."""
    parent, _ = choice
    others = [m.id for m in parents_of(members) if m.id != parent]
    draw = draw_of(settings, id, "wider")
    return parent, tuple(draw.sample(others, min(WIDER * settings.num_references, len(others))))
