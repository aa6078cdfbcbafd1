"""Who leads the research: the symbolic researcher, a language model or agents, each with a share."""

import random
from collections.abc import Mapping, Sequence

from asi_arch.llm.models import Models
from asi_arch.loop.seams import Researcher
from asi_arch.records import Brief, Experiment, Proposal
from asi_arch.settings import Settings, researcher_shares

OURS = ("symbolic", "model")  # researchers that a run asks; an agent comes by itself
OTHERWISE = {
    "symbolic": "--set model=PROVIDER:NAME has a language model do it (docs/models.md)",
    "model": "--set researcher=symbolic goes without, researcher=symbolic:0.5,model:0.5 mixes them",
    "agent": "`asi-arch mcp` gives one a seat, --set researcher=symbolic goes without",
}


def shares_of(settings: Settings, models: Models | None) -> dict[str, float]:
    """Give the share of each researcher; "auto" is the model where there is one."""
    shares = researcher_shares(settings.researcher)
    return {_automatic(models): 1.0} if "auto" in shares else shares


def own_shares(shares: Mapping[str, float], models: Models | None) -> dict[str, float]:
    """Give the shares of the researchers that a run asks, also for what an agent left behind."""
    own = {name: share for name, share in shares.items() if name in OURS}
    return own or {_automatic(models): 1.0}


def _automatic(models: Models | None) -> str:
    return "model" if models is not None and models.name("designer") else "symbolic"


def own_candidates(shares: Mapping[str, float], wanted: int, candidates: Sequence[Experiment]) -> int:
    """Give how many candidates a study may have before the agents' share is kept free for them."""
    theirs = sum(e.proposal is not None and e.proposal.author not in OURS for e in candidates)
    return wanted - max(0, round(shares.get("agent", 0.0) * wanted) - theirs)


def lead_of(shares: Mapping[str, float], seed: int, id: int) -> str:
    """Give who proposes for an id: drawn by share, from the study's seed and the id alone."""
    draw = random.Random(f"{seed}/{id}/researcher")
    return draw.choices(list(shares), list(shares.values()))[0]


def tell_lead(shares: Mapping[str, float], models: Models | None) -> str:
    """Say in one line which researcher leads, and how to change it."""
    names = {
        "symbolic": "the symbolic researcher",
        "model": f"the language model {models.name('designer') if models else ''}",
        "agent": "coding agents",
    }
    if len(shares) == 1:
        (lead,) = shares
        return f"researcher: {names[lead]} proposes; {OTHERWISE[lead]}"
    parts = ", ".join(f"{names[name]} {share:.0%}" for name, share in shares.items())
    return f"researcher: {parts} of the proposals; --set researcher=... changes it"


class Mixed:
    """Researchers that share the ids of a study."""

    def __init__(self, shares: Mapping[str, float], researchers: Mapping[str, Researcher]) -> None:
        self._shares, self._researchers = dict(shares), dict(researchers)

    def propose(self, brief: Brief) -> Proposal:
        """Give the proposal of the researcher whose id it is."""
        return self._researchers[lead_of(self._shares, brief.seed, brief.id)].propose(brief)
