"""Where the parts of a design came from: a record that researcher, analyst, archive and report share."""

from dataclasses import dataclass
from typing import Literal

Origin = Literal["cognition", "analysis", "original"]
Basis = Literal["drawn", "stated", "judged"]
ORIGINS: tuple[Origin, ...] = ("cognition", "analysis", "original")


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribution:
    """Where one changed component of a design came from, against its parent.

    component: a move's name, or the changed part in words.
    origin: `cognition`, what papers know; `analysis`, the study's own experiments and findings; or
        `original`, neither.
    cognitions: ids of those that decided; only where that is the origin.
    experiments: ids of those that it was taken from, where these are known.
    basis: `drawn`, noted by the symbolic researcher as it drew the move; `stated`, by rule from what the
        author said; `judged`, by a language model in the role `analyst`.
    reason: in a sentence, what decided.
    Source: arXiv:2507.18074, table 3 (the three origins, there called cognition, experience and original).
    """

    component: str
    origin: Origin
    basis: Basis
    reason: str
    cognitions: tuple[str, ...] = ()
    experiments: tuple[int, ...] = ()
