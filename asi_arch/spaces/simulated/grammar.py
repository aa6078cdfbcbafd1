"""The grammar of the simulated space: every move appends one change."""

from asi_arch.researcher.symbolic import Move
from asi_arch.spaces.simulated.design import MOST, STEPS, Design, read_design, size

LARGEST = 4  # times that a part may be there


class SimulatedGrammar:
    """Reads and writes lists of changes."""

    def read(self, source: str) -> tuple[Design, str]:
        """Give the changes of a source, and a note when the text is not what `render` writes."""
        design = read_design(source)
        written = source[source.rfind("\nSTEPS = ") + 1 :] == _body(design)
        return design, "" if written else "It was read from a text of another layout."

    def moves(self) -> tuple[Move, ...]:
        """Give all moves: one for each change."""
        return tuple(_move(step) for step in STEPS)

    def without_each(self, design: Design, base: Design) -> tuple[tuple[str, Design], ...]:
        """Give the design without each of the changes that come after those it shares with a base."""
        shared = next((i for i, (a, b) in enumerate(zip(design, base, strict=False)) if a != b), len(base))
        found: dict[Design, str] = {}
        for i in range(min(shared, len(design)), len(design)):
            found.setdefault((*design[:i], *design[i + 1 :]), f"{design[i]} at {i}")
        return tuple((name, other) for other, name in found.items())

    def title(self, design: Design) -> str:
        """Name a design by its last changes and their number, such as "add_gate_turn_norm_12"."""
        return "_".join((*design[-2:], str(len(design))))

    def render(self, design: Design, name: str, motivation: str) -> str:
        """Write a design as source."""
        text = f"{name}.\n\n{motivation}".replace("\\", "/").replace('"', "'")
        return f'"""{text}\n"""\n\n{_body(design)}'


def grammar() -> SimulatedGrammar:
    """Give the grammar of the simulated space."""
    return SimulatedGrammar()


def _body(design: Design) -> str:
    return "\n".join(["STEPS = [", *(f'    "{step}",' for step in design), "]"]) + "\n"


def _move(step: str) -> Move:
    verb, part = step.split("_")

    def change(design: Design, _: Design | None) -> Design | None:
        there = size(design, part)
        fits = {"add": there < LARGEST, "turn": True, "drop": there > 0}[verb]
        return (*design, step) if fits and len(design) < MOST else None

    return Move(name=step, motivation=f"To {verb} a {part} changes the design in one place.", change=change)
