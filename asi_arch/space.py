"""A space: one family of architectures under study, found by name and equal wherever it lives."""

import importlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from asi_arch.errors import SetupError
from asi_arch.records import Stage

WINDOW = 0.10  # the paper's: relative changes within it are told apart, a gain beyond it is suspected
BUILT_IN = Path(__file__).parent / "spaces"


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricSpec:
    """A score of a space. scale: sd of a difference of two single runs, by stage, in its unit.

    The scale is calibrated once (LOG.md says how) and turns a gain into a fitness term.
    """

    name: str
    title: str
    unit: str
    higher_is_better: bool
    scale: Mapping[str, float]


def advantage(spec: MetricSpec, value: float, reference: float) -> float:
    """Give by which share of the reference a metric is better; beyond WINDOW it is too good to be believed.

    It says nothing about why: on a small model a real gain of that size is possible, and a small leak
    stays within it. So a run is examined anew, and kept if nothing is found.
    Source: arXiv:2507.18074, Section 3 (there the training loss, and such a run is thrown away).
    """
    change = value - reference if spec.higher_is_better else reference - value
    if reference == 0:
        return math.copysign(math.inf, change) if change else 0.0
    return change / abs(reference)


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """Contract, seed, baselines, stages and the functions that measure, as one value.

    folder: holds baselines/*.py, rejects/<check>.py and cognition/*.toml, found by listing.
    seed: stem of the baseline that the search starts from and that all gains are against.
    references: stems of baselines that are measured for comparison and are no parents.
    engine: "module:function", called in a child process as `(Job, report) -> Evidence`, where
        `report` takes a `Progress`.
    grammar: "module:function" that gives the grammar for the symbolic researcher, or "".
    model: "module" of what stands around a candidate, for engines that need it, or "".
    recipe: how candidates are measured, in words for their authors, or "".
    hostile: the engine runs candidate code, so the pool keeps a wall ready for it.
    warm_up: share of a stage's steps in which the learning rate rises, within which no run is stopped.
    """

    name: str
    title: str
    folder: Path
    contract: str
    seed: str
    metrics: tuple[MetricSpec, ...]
    stages: Mapping[str, Stage]
    engine: str
    grammar: str = ""
    model: str = ""
    recipe: str = ""
    references: tuple[str, ...] = ()
    hostile: bool = True
    warm_up: float = 0.0
    file_suffix: str = field(default=".py")

    def baselines(self) -> tuple[str, ...]:
        """Give the stems of the baselines: the seed first, references last."""
        stems = sorted(path.stem for path in (self.folder / "baselines").glob("*" + self.file_suffix))
        order = {self.seed: -1, **dict.fromkeys(self.references, 1)}
        return tuple(sorted((s for s in stems if s != "__init__"), key=lambda s: (order.get(s, 0), s)))

    def baseline_source(self, stem: str) -> str:
        """Give a baseline's text. Raises OSError when there is no such file."""
        return (self.folder / "baselines" / (stem + self.file_suffix)).read_text()

    def moves(self) -> Mapping[str, str]:
        """Give the grammar's moves by name, each with why it may pay; {} without a grammar."""
        grammar = self.open_grammar()
        return {move.name: move.motivation for move in grammar.moves()} if grammar else {}

    def open_grammar(self) -> Any:
        """Give the grammar, which is a `researcher.symbolic.Grammar`; None without one."""
        return resolve(self.grammar)() if self.grammar else None


def resolve(name: str) -> Any:
    """Import "module:attribute" and give the attribute."""
    module, _, attribute = name.partition(":")
    found: Any = getattr(importlib.import_module(module), attribute)
    return found


def load_space(name: str) -> Space:
    """Give the space of a name: a built-in one, or any importable module with a `SPACE`.

    A plain word such as "toy" means `asi_arch.spaces.toy.space`; a dotted name such as
    "my_lab.my_space" is imported as it stands.

    Raises:
        SetupError: no such space, or its module holds no `SPACE`.
    """
    if not all(part.isidentifier() for part in name.split(".")):
        raise SetupError(f"no space {name!r}; a space is a word such as 'toy', or a dotted module")
    module = name if "." in name else f"asi_arch.spaces.{name}.space"
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not module.startswith(error.name):
            raise
        known = ", ".join(sorted(path.parent.name for path in BUILT_IN.glob("*/space.py")))
        raise SetupError(f"no space {name!r}; built in are {known}, or give a dotted module") from None
    space = getattr(found, "SPACE", None)
    if not isinstance(space, Space):
        raise SetupError(f"space {name!r}: module {module} defines no SPACE of type Space")
    return space
