"""Write a design as readable source under the contract: only what this design needs.

Text is collected in four places (imports, `__init__`, methods, `forward`), one function for each part of
the mixer, and laid out by ruff. Names follow fla: q k v g beta o, [B, T, H, K].
"""

import subprocess
import sys
import textwrap
from pathlib import Path

from asi_arch.spaces.linear_attention.design import Design, to_json
from asi_arch.spaces.linear_attention.render_inputs import inputs
from asi_arch.spaces.linear_attention.render_memories import formula, memories
from asi_arch.spaces.linear_attention.render_outputs import outputs
from asi_arch.spaces.linear_attention.render_text import Text, indented


def render(design: Design, name: str, motivation: str) -> str:
    """Give a valid design as formatted source; equal arguments give equal text."""
    body = program(design)
    return _formatted(f'"""{_docstring(design, name, motivation)}"""\n\n{body}')


def program(design: Design) -> str:
    """Give the source of a valid design without its module docstring, and not formatted."""
    text = Text(design=design)
    for part in (inputs, memories, outputs):
        part(text)
    code = _class(text)
    imports = ["import torch"] if "torch." in code else []
    imports += ["from torch import Tensor, nn"]
    imports += ["from torch.nn import functional as F"] if "F." in code else []
    imports += ["", f"from asi_arch.ops import {', '.join(sorted(text.ops))}"] if text.ops else []
    return "\n".join([*imports, "", "", code])


def _class(text: Text) -> str:
    blocks = [
        '"""Mixes tokens. State: a dict of tensors whose sizes do not depend on T."""\n',
        "def __init__(self, d_model: int, num_heads: int, layer_idx: int = 0) -> None:",
        *indented(["super().__init__()", "self.num_heads = num_heads", *text.init]),
        "",
        "def forward(self, x: Tensor, state: dict | None = None) -> tuple[Tensor, dict]:",
        *indented(['"""x: [B, T, D] and the state so far, to y: [B, T, D] and the state after."""']),
        *indented(["state = {} if state is None else state", "after = {}", *text.forward]),
        *text.methods,
    ]
    return "\n".join(["class Mixer(nn.Module):", *indented(blocks), ""])


def _formatted(code: str) -> str:
    """Lay out by ruff, which stands beside the interpreter."""
    beside = Path(sys.executable).with_name("ruff")
    command = [str(beside)] if beside.exists() else [sys.executable, "-m", "ruff"]
    options = ["format", "--isolated", "--line-length", "110", "--no-cache", "-"]
    done = subprocess.run([*command, *options], input=code, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _docstring(design: Design, name: str, motivation: str) -> str:
    paragraphs = [textwrap.fill(p, 108, break_long_words=False) for p in motivation.split("\n") if p.strip()]
    formulas = "\n".join("    " + formula(m) for m in design.memories)
    plain = "\n\n".join([f"{name}.", formulas, *paragraphs]).replace("\\", "/").replace('"', "'")
    return f"{plain}\n\nDesign: {to_json(design)}\n"
