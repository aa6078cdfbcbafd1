"""The source under construction: lines for `__init__`, `forward` and other methods, and what they import."""

import textwrap
from dataclasses import dataclass, field

from asi_arch.spaces.linear_attention.design import Design


@dataclass(slots=True)
class Text:
    """The source under construction, line by line, without indentation inside a body."""

    design: Design
    ops: set[str] = field(default_factory=set)
    init: list[str] = field(default_factory=list)
    methods: list[str] = field(default_factory=list)
    forward: list[str] = field(default_factory=list)

    def use(self, op: str) -> str:
        """Note that an op or a layer is imported, and give its name."""
        self.ops.add(op)
        return op

    @property
    def gates_from(self) -> str:
        """Give the variable that gates are computed from."""
        return "x_g" if "g" in self.design.shifted else "x"

    def method(self, signature: str, doc: str, lines: list[str]) -> None:
        """Add a method."""
        self.methods += ["", f"def {signature}:", *indented([f'"""{doc}"""', *lines])]


def indented(lines: list[str]) -> list[str]:
    """Indent lines by one level."""
    return [textwrap.indent(line, "    ") for line in lines]


def linear(width: str, rank: int) -> str:
    """Give a projection of the model's width as an expression, through a bottleneck if rank is not 0."""
    if not rank:
        return f"nn.Linear(d_model, {width}, bias=False)"
    down, up = f"nn.Linear(d_model, {rank}, bias=False)", f"nn.Linear({rank}, {width}, bias=False)"
    return f"nn.Sequential({down}, {up})"
