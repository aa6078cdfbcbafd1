"""How a change of one part becomes a move: the rest is made to fit, and what does not fit is no move."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from asi_arch.researcher.symbolic import Move
from asi_arch.spaces.linear_attention.design import Decay, Design, Memory, choices, tidy
from asi_arch.spaces.linear_attention.limits import POSITIVE, fault

Change = Callable[[Design], Design | None]
Taking = Callable[[Design, Design], Design | None]


def move(name: str, change: Change, cites: tuple[str, ...], motivation: str, expect: str = "") -> Move:
    """Make a move of a change; it does not apply where the change, made to fit, changes nothing."""

    def apply(design: Design, _: Design | None) -> Design | None:
        return _settled(design, change(design))

    return Move(name=name, change=apply, cites=cites, motivation=motivation, expect=expect)


def taking(name: str, take: Taking, cites: tuple[str, ...], motivation: str) -> Move:
    """Make a move of a change that takes a part from a reference's design."""

    def apply(design: Design, reference: Design | None) -> Design | None:
        return None if reference is None else _settled(design, take(design, reference))

    return Move(name=name, change=apply, cites=cites, motivation=motivation, takes=True)


def _settled(before: Design, after: Design | None) -> Design | None:
    if after is None:
        return None
    after = tidy(fitted(after))
    return None if after == before or fault(after) else after


def fitted(design: Design) -> Design:
    """Give the design whose parts fit together: what no longer goes with the rest is dropped."""
    positive = design.keys.feature in POSITIVE and not design.keys.rotary
    memories = tuple(_fitted_memory(m, positive, first=i == 0) for i, m in enumerate(design.memories))
    keys = design.keys
    if any(m.update == "delta" for m in memories):
        keys = replace(keys, norm="l2")
    first = memories[0]
    if first.update == "additive" or first.steps > 1:
        keys = replace(keys, corrected=False)
    if first.steps > 1:
        keys = replace(keys, shared=False)
    design = replace(design, memories=memories, keys=keys)
    if len(memories) == 2 and memories[0] == memories[1]:
        design = replace(design, memories=memories[:1])
    if design.fusion.kind == "staged" and (design.num_paths() < 3 or not design.num_local_paths()):
        design = replace(design, fusion=replace(design.fusion, kind="token"))
    grows = first.update == "additive" and not first.normalised and design.num_paths() == 1
    if grows and design.output.norm == "none":
        design = replace(design, output=replace(design.output, norm="rms"))
    raw = "v" in design.convolved or design.values.activation != "none"
    if design.values.residual == "raw" and not raw:
        design = replace(design, values=replace(design.values, residual="none"))
    return design


def _fitted_memory(memory: Memory, positive: bool, first: bool) -> Memory:
    decay = memory.decay or Decay(kind="fixed")
    allowed = ["full", "sigmoid"]
    if memory.update == "delta":
        allowed += ["double"] if memory.steps > 1 else ["double", "apart"]
        memory = replace(memory, normalised=False)
    else:
        allowed += ["step"] if (decay.kind, decay.form) == ("scalar", "softplus") else []
        allowed += ["tied"] if decay.kind == "channel" else []
        memory = replace(memory, normalised=memory.normalised and positive, steps=1)
    memory = memory if first else replace(memory, steps=1)
    return memory if memory.write in allowed else replace(memory, write="sigmoid")


def mixer(**values: Any) -> Change:
    """Set fields of the design."""
    return lambda design: replace(design, **values)


def part(name: str, **values: Any) -> Change:
    """Set fields of its keys, values, fusion or output."""
    return lambda design: replace(design, **{name: replace(getattr(design, name), **values)})


def memory(**values: Any) -> Change:
    """Set fields of its first memory."""
    return lambda design: with_first(design, replace(design.memories[0], **values))


def with_first(design: Design, first: Memory) -> Design:
    """Give the design with another first memory."""
    return replace(design, memories=(first, *design.memories[1:]))


def decay(**values: Any) -> Change:
    """Set fields of the first memory's decay; without a decay there is nothing to set."""

    def change(design: Design) -> Design | None:
        first = design.memories[0]
        if first.decay is None:
            return None
        return with_first(design, replace(first, decay=replace(first.decay, **values)))

    return change


def add_decay(**values: Any) -> Change:
    """Give the first memory a decay; what the old one had beside is kept."""

    def change(design: Design) -> Design:
        first = design.memories[0]
        return with_first(design, replace(first, decay=replace(first.decay or Decay(), **values)))

    return change


def gated_decay(form: str) -> Change:
    """Set the form of a decay that depends on the token."""
    return when(lambda d: kind_of(d) in ("scalar", "channel"), decay(form=form))


def kind_of(design: Design) -> str:
    """Give the kind of the first memory's decay, or "none"."""
    first = design.memories[0].decay
    return first.kind if first else "none"


def when(condition: Callable[[Design], bool], change: Change) -> Change:
    """Make a change where a condition holds."""
    return lambda design: change(design) if condition(design) else None


def stepped(
    node: type, name: str, get: Callable[[Design], Any], put: Callable[[Any], Change], by: int
) -> Change:
    """Move a field to the next of its choices, up or down; 0 stands for absent and is not stepped."""
    values = [value for value in choices(node, name) if value]

    def change(design: Design) -> Design | None:
        value = get(design)
        if value not in values:
            return None
        place = values.index(value) + by
        return put(values[place])(design) if 0 <= place < len(values) else None

    return change
