"""Write a design as readable source under the contract: only what this design needs.

Text is collected in four places (imports, `__init__`, methods, `forward`), one function for each part of
the mixer, and laid out by ruff. Names follow fla: q k v g beta o, [B, T, H, K].
"""

import subprocess
import sys
import textwrap
from dataclasses import dataclass, field
from pathlib import Path

from asi_arch.spaces.linear_attention.design import TIME_SCALES, Decay, Design, Memory, to_json

SOURCES = {
    "delta": "2406.06484",
    "gated": "2412.06464",
    "steps": "2502.10297",
}


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


def render(design: Design, name: str, motivation: str) -> str:
    """Give a valid design as formatted source; equal arguments give equal text."""
    body = program(design)
    return _formatted(f'"""{_docstring(design, name, motivation)}"""\n\n{body}')


def program(design: Design) -> str:
    """Give the source of a valid design without its module docstring, and not formatted."""
    text = Text(design=design)
    for part in (_projections, _convolutions, _values, _features, _memories, _paths, _output):
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
        *_indented(["super().__init__()", "self.num_heads = num_heads", *text.init]),
        "",
        "def forward(self, x: Tensor, state: dict | None = None) -> tuple[Tensor, dict]:",
        *_indented(['"""x: [B, T, D] and the state so far, to y: [B, T, D] and the state after."""']),
        *_indented(["state = {} if state is None else state", "after = {}", *text.forward]),
        *text.methods,
    ]
    return "\n".join(["class Mixer(nn.Module):", *_indented(blocks), ""])


def _indented(lines: list[str]) -> list[str]:
    return [textwrap.indent(line, "    ") for line in lines]


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


def formula(memory: Memory) -> str:
    """Give a memory's recurrence as a line of text."""
    decay = {None: "", "fixed": "exp(g) ", "learned": "exp(g) ", "scalar": "exp(g_t) ",
             "channel": "diag(exp g_t) "}[memory.decay and memory.decay.kind]  # fmt: skip
    strength = {"full": "", "sigmoid": "beta_t ", "double": "beta_t ", "step": "dt_t "}.get(memory.write, "")
    if memory.update == "delta":
        rule = f"S_t = (I - {strength}k_t k_t^T) {decay}S_(t-1) + {strength}k_t v_t^T"
        return rule + (f", {memory.steps} times for each token" if memory.steps > 1 else "")
    key = "(1 - exp g_t) k_t" if memory.write == "tied" else f"{strength}k_t"
    rule = f"S_t = {decay}S_(t-1) + {key} v_t^T"
    return rule + (", read as S_t^T q_t / (z_t . q_t)" if memory.normalised else "")


# Inputs


def _projections(text: Text) -> None:
    """Project the token, or its mix with the one before, to q, k and v."""
    design = text.design
    text.init += _widths(design)
    own = {c: f"x_{c}" if c in design.shifted else "x" for c in "qkv"}
    if design.shifted:
        _shift(text)
    if set(own.values()) == {"x"}:
        total = "3 * d_model" if _even(design) else "sum(self.widths)"
        text.init.append(f"self.qkv = nn.Linear(d_model, {total}, bias=False)")
        text.forward.append("qkv = self.qkv(x)")
        return
    for i, c in enumerate("qkv"):
        width = "d_model" if _even(design) else f"self.widths[{i}]"
        text.init.append(f"self.{c} = nn.Linear(d_model, {width}, bias=False)")
    projected = ", ".join(f"self.{c}({own[c]})" for c in "qkv")
    text.forward.append(f"qkv = torch.cat([{projected}], dim=-1)")


def _even(design: Design) -> bool:
    """Tell whether q, k and v are all as wide as the model."""
    return not (design.keys.half or design.keys.shared or design.values.twice or design.steps() > 1)


def _widths(design: Design) -> list[str]:
    keys, values, n = design.keys, design.values, design.steps()
    lines = [f"key = d_model // num_heads{' // 2' if keys.half else ''}"] if _names_key(design) else []
    if design.output.norm == "rms" or not _even(design):
        lines.append(f"value = {'2 * ' if values.twice else ''}(d_model // num_heads)")
    if not _even(design):
        q = "key" if keys.shared else "num_heads * key"
        k, v = (q, "num_heads * value") if n == 1 else (f"{n} * {q}", f"{n} * num_heads * value")
        lines.append(f"self.widths = [{q}, {k}, {v}]  # of q, k, v")
    return lines


def _names_key(design: Design) -> bool:
    channels = any(m.decay and m.decay.kind == "channel" for m in design.memories)
    return channels or not _even(design) or design.keys.feature == "hedgehog" or design.keys.norm == "rms"


def _shift(text: Text) -> None:
    """Mix the token with the one before it, for each use on its own (arXiv:2305.13048)."""
    text.init.append("# Share of the token before, by channel: from none to all.")
    text.forward.append(f'before, after["last"] = {text.use("token_shift")}(x, state.get("last"))  # [B, T, D]')
    for c in text.design.shifted:
        text.init.append(f"self.shift_{c} = nn.Parameter(torch.linspace(0, 1, d_model))")
        text.forward.append(f"x_{c} = x + self.shift_{c} * (before - x)")


def _split(design: Design) -> str:
    return "chunk(3, dim=-1)" if _even(design) else "split(self.widths, dim=-1)"


def _convolutions(text: Text) -> None:
    """Let q, k, v see the last few tokens; end with q, k, v [B, T, channels]."""
    design, split = text.design, _split(text.design)
    kernel, silu = design.kernel, {"q": design.keys.feature == "silu", "k": design.keys.feature == "silu",
                                   "v": design.values.activation == "silu"}  # fmt: skip
    raw = design.values.residual == "raw"
    if design.convolved == "qkv":
        same = len(set(silu.values())) == 1
        activation = '"silu"' if same and silu["q"] else "None"
        total = "3 * d_model" if _even(design) else "sum(self.widths)"
        layer = f"{text.use('ShortConvolution')}({total}, kernel_size={kernel}, activation={activation})"
        text.init.append(f"self.conv = {layer}")
        if raw:
            text.forward.append(f"raw = qkv.{split}[2]")
        text.forward.append('qkv, after["conv"] = self.conv(qkv, state.get("conv"))')
        text.forward.append(f"q, k, v = qkv.{split}")
        return
    text.forward.append(f"q, k, v = qkv.{split}")
    if raw:
        text.forward.append("raw = v")
    for c in design.convolved:
        width = "d_model" if _even(design) else f"self.widths[{'qkv'.index(c)}]"
        activation = '"silu"' if silu[c] else "None"
        layer = f"{text.use('ShortConvolution')}({width}, kernel_size={kernel}, activation={activation})"
        text.init.append(f"self.{c}_conv = {layer}")
        text.forward.append(f'{c}, after["{c}_conv"] = self.{c}_conv({c}, state.get("{c}_conv"))')


def _convolution_activates(design: Design, c: str) -> bool:
    """Tell whether the convolution of q, k or v already applied its SiLU."""
    silu = {"q": design.keys.feature == "silu", "k": design.keys.feature == "silu",
            "v": design.values.activation == "silu"}  # fmt: skip
    same = len(set(silu.values())) == 1
    return silu[c] and c in design.convolved and (design.convolved != "qkv" or same)


def _values(text: Text) -> None:
    """Activate the values, and mix them with those before the convolution."""
    design = text.design
    if design.values.activation == "silu" and not _convolution_activates(design, "v"):
        text.forward.append("v = F.silu(v)")
    if design.values.residual == "raw":
        width = "d_model" if _even(design) else "self.widths[2]"
        text.init.append(f"self.value_mix = nn.Parameter(torch.zeros({width}))")
        text.forward.append("v = raw + self.value_mix.sigmoid() * (v - raw)  # raw: before the convolution")


def _features(text: Text) -> None:
    """Split heads, apply feature map and norm, turn by position; q, k [B, T, H, K], v [B, T, H, V]."""
    design, keys = text.design, text.design.keys
    groups = "1" if keys.shared else "self.num_heads"
    n = f"{design.steps()} * " if design.steps() > 1 else ""
    if groups == "self.num_heads" and not n:
        comment = "[B, T, H, K], values [B, T, H, V]"
        text.forward.append(f"q, k, v = (t.unflatten(-1, (self.num_heads, -1)) for t in (q, k, v))  # {comment}")
    else:
        comment = f"# [B, T, {design.steps()} H, K]" if n else "# [B, T, 1, K]"
        text.forward.append(f"q = q.unflatten(-1, ({groups}, -1))" + ("" if n else f"  {comment}"))
        text.forward.append(f"k = k.unflatten(-1, ({n}{groups}, -1))  {comment}")
        text.forward.append(f"v = v.unflatten(-1, ({n}self.num_heads, -1))")
    q, k = _feature(text, "q"), _feature(text, "k")
    if keys.norm == "l2":
        q, k = (f"{text.use('l2norm')}({t})" for t in (q, k))
    elif keys.norm == "rms":
        norm = text.use("RMSNorm")
        text.init += [f"self.q_norm = {norm}(key)", f"self.k_norm = {norm}(key)"]
        q, k = f"self.q_norm({q})", f"self.k_norm({k})"
    if (q, k) != ("q", "k"):
        text.forward.append(f"q, k = {q}, {k}")
    if keys.rotary:
        rotary = text.use("rotary")
        text.forward.append(f'q, _ = {rotary}(q, state.get("position"))')
        text.forward.append(f'k, after["position"] = {rotary}(k, state.get("position"))')
    if keys.shared:
        text.forward.append("# All heads have one query and one key.")
        text.forward.append("q, k = (t.expand(-1, -1, self.num_heads, -1) for t in (q, k))  # [B, T, H, K]")


def _feature(text: Text, name: str) -> str:
    """Give the feature map of q or k as an expression."""
    design = text.design
    feature = design.keys.feature
    if feature == "hedgehog":
        groups = "1" if design.keys.shared else "num_heads"
        count = f"{design.steps()} * {groups}" if name == "k" and design.steps() > 1 else groups
        text.init.append(f"self.{name}_feature = nn.Parameter(torch.randn({count}, key, key // 2) * key**-0.5)")
        if name == "q":
            text.methods += _HEDGEHOG
        return f"self.feature({name}, self.{name}_feature)"
    if feature == "silu" and _convolution_activates(design, name):
        return name
    return {"identity": "{0}", "silu": "F.silu({0})", "elu1": "F.elu({0}) + 1", "relu": "F.relu({0})",
            "relu2": "F.relu({0}).square()", "softmax": "{0}.softmax(-1)"}[feature].format(name)  # fmt: skip


_HEDGEHOG = [
    "",
    "def feature(self, x: Tensor, weight: Tensor) -> Tensor:",
    '    """Give learned positive features of x: [B, T, H, K] (Hedgehog, arXiv:2402.04347)."""',
    '    y = torch.einsum("bthk,hkf->bthf", x, weight)',
    "    return torch.cat([y.softmax(-1), (-y).softmax(-1)], dim=-1)",
]


# Memories


def _memories(text: Text) -> None:
    """Run the recurrences; each leaves its output [B, T, H, V] in `o`, or in `o` and `o_second`."""
    design = text.design
    first = design.memories[0]
    _memory(text, first, "")
    if first.steps > 1 and (design.num_paths() > 1 or design.values.residual == "skip"):
        text.forward.append("# The other paths take the key and the value of the last step.")
        text.forward.append("k, v = k[:, :, -self.num_heads :], v[:, :, -self.num_heads :]")
    for memory in design.memories[1:]:
        _memory(text, memory, "_second")


def _memory(text: Text, memory: Memory, suffix: str) -> None:
    names = {"q": "q", "k": "k", "v": "v", "g": f"g{suffix}", "beta": f"beta{suffix}", "o": f"o{suffix}"}
    if memory.decay:
        _decay(text, memory, suffix, names)
    _write(text, memory, suffix, names)
    if memory.steps > 1:
        _interleave(text, memory, names)
    op = text.use(recurrence(memory))
    arguments = [names[a] for a in ("q", "k", "v")]
    arguments += [names["g"]] if memory.decay else []
    arguments += [names["beta"]] if memory.update == "delta" else []
    state = f"memory{suffix}"
    scale = ", scale=1.0" if text.design.keys.norm == "l2" else ""
    call = f'{op}({", ".join(arguments)}, initial_state=state.get("{state}"){scale})'
    text.forward.append(f'{names["o"]}, after["{state}"] = {call}')
    if memory.steps > 1:
        text.forward.append(f"o = o[:, {memory.steps - 1} :: {memory.steps}]  # after the last step of each token")
    if memory.normalised:
        text.forward.append(f"{names['o']} = {names['o']}[..., :-1] / ({names['o']}[..., -1:] + 1e-6)")


def recurrence(memory: Memory) -> str:
    """Give the name of the op that computes a memory."""
    kind = memory.decay and memory.decay.kind
    if memory.update == "delta":
        return {None: "delta_rule", "channel": "kda"}.get(kind, "gated_delta_rule")
    return {None: "linear_attention", "fixed": "retention", "learned": "retention", "channel": "gla"}.get(
        kind, "simple_gla"
    )


def _decay(text: Text, memory: Memory, suffix: str, names: dict[str, str]) -> None:
    """Compute the log decay g of a memory; its parameters start at the decay's time scales."""
    decay = memory.decay
    assert decay is not None
    slow, fast = TIME_SCALES[decay.scale]
    over = "key" if decay.kind == "channel" else "num_heads"
    where = "channel of each head" if decay.kind == "channel" else "head"
    repeat = ".repeat(num_heads)" if decay.kind == "channel" else ""
    exponents = f"{slow.bit_length() - 1}, {fast.bit_length() - 1}"
    text.init.append(f"# Forget within {slow} tokens at the first {where} to {fast} at the last, at the start.")
    text.init.append(f"rate = (0.5 ** torch.linspace({exponents}, {over})){repeat}")
    if decay.kind in ("fixed", "learned"):
        _constant_decay(text, memory, suffix, names)
        return
    gate, out = f"self.decay{suffix}", "num_heads" if decay.kind == "scalar" else "num_heads * key"
    down = f"nn.Linear(d_model, {decay.rank}, bias=False), nn.Linear({decay.rank}, {out}, bias=False)"
    layer = f"nn.Sequential({down})" if decay.kind == "channel" else f"nn.Linear(d_model, {out}, bias=False)"
    text.init.append(f"{gate} = {layer}")
    text.init += _decay_parameters(decay, suffix)
    text.forward += _decay_lines(decay, memory.write == "step", suffix, text.gates_from)


def _constant_decay(text: Text, memory: Memory, suffix: str, names: dict[str, str]) -> None:
    assert memory.decay is not None
    if memory.decay.kind == "fixed":
        text.init.append(f'self.register_buffer("log_decay{suffix}", -rate)')
        g = f"self.log_decay{suffix}"
    else:
        text.init.append(f"self.log_rate{suffix} = nn.Parameter(rate.log())")
        g = f"-self.log_rate{suffix}.exp()"
    if memory.update == "delta":
        text.forward.append(f"{names['g']} = ({g}).expand(*x.shape[:2], -1)  # [B, T, H]")
    else:
        text.forward.append(f"{names['g']} = {g}  # [H]")


def _decay_parameters(decay: Decay, suffix: str) -> list[str]:
    """Give the parameters beside the gate's projection, such that g starts at -rate."""
    if decay.form == "softplus":
        return [
            f"self.decay_bias{suffix} = nn.Parameter(torch.expm1(rate).log())  # softplus of it is the rate",
            f"self.log_rate{suffix} = nn.Parameter(torch.zeros(num_heads))",
        ]
    if decay.form == "recurrent":
        return [f"self.decay_rate{suffix} = nn.Parameter(torch.expm1(rate / 4).log())  # the gate starts at 1/2"]
    start = {
        "logsigmoid": "-torch.expm1(16 * rate).log()",
        "bounded": "-(5 / rate - 1).log()",
        "mild": "-(0.606531 / rate - 1).log()",
    }[decay.form]
    return [f"self.decay_bias{suffix} = nn.Parameter({start})"]


def _decay_lines(decay: Decay, as_step: bool, suffix: str, source: str) -> list[str]:
    """Give the lines that compute g, and dt when the write strength is the step."""
    channel = decay.kind == "channel"
    heads = ".unflatten(-1, (self.num_heads, -1))" if channel else ""
    shape = "# [B, T, H, K]" if channel else "# [B, T, H]"
    gate, bias = f"self.decay{suffix}({source})", f"self.decay_bias{suffix}"
    if decay.form == "softplus":
        rate = f"self.log_rate{suffix}.exp()" + (".unsqueeze(-1)" if channel else "")
        step = f"F.softplus({gate} + {bias}){heads}"
        if as_step:
            return [f"dt{suffix} = {step}  {shape}", f"g{suffix} = -{rate} * dt{suffix}"]
        return [f"g{suffix} = -{rate} * {step}  {shape}"]
    z = f"{gate} + {bias}"
    value = {
        "logsigmoid": f"F.logsigmoid({z}) / 16",
        "bounded": f"-5 * ({z}).sigmoid()",
        "mild": f"-0.606531 * ({z}).sigmoid()",
        "recurrent": f"-8 * F.softplus(self.decay_rate{suffix}) * {gate}.sigmoid()",
    }[decay.form]
    return [f"g{suffix} = ({value}){heads}  {shape}" if heads else f"g{suffix} = {value}  {shape}"]


def _write(text: Text, memory: Memory, suffix: str, names: dict[str, str]) -> None:
    """Compute the write strength; an additive memory applies it to its values or keys."""
    design, n = text.design, memory.steps
    strength = ""
    if memory.write in ("sigmoid", "double"):
        width = f"{n} * num_heads" if n > 1 else "num_heads"
        text.init.append(f"self.beta{suffix} = nn.Linear(d_model, {width}, bias=False)")
        twice = "2 * " if memory.write == "double" else ""
        comment = f"# [B, T, {n} H]" if n > 1 else "# [B, T, H]"
        text.forward.append(f"{names['beta']} = {twice}self.beta{suffix}({text.gates_from}).sigmoid()  {comment}")
        strength = names["beta"]
    elif memory.update == "delta":
        heads = f"{n} * self.num_heads" if n > 1 else "self.num_heads"
        text.forward.append(f"{names['beta']} = x.new_ones(*x.shape[:2], {heads})")
    elif memory.write == "step":
        strength = f"dt{suffix}"
    if memory.update == "delta":
        return
    value = "v"
    if memory.normalised:
        text.forward.append("# One more value, always 1, sums the weights.")
        value = "F.pad(v, (0, 1), value=1.0)"
    if strength:
        value = f"{value} * {strength}.unsqueeze(-1)"
    if memory.write == "tied":
        names["k"] = f"-torch.expm1({names['g']}) * k"
    names["v"] = value
    _ = design


def _interleave(text: Text, memory: Memory, names: dict[str, str]) -> None:
    """Lay the steps of a token one after another in time (arXiv:2502.10297)."""
    n = memory.steps
    names |= {"q": f"q.repeat_interleave({n}, dim=1)", "k": "keys", "v": "values", "beta": "beta"}
    text.forward.append(f"# {n} steps for each token: [B, T, {n} H, ...] -> [B, {n} T, H, ...].")
    steps = f"t.unflatten(2, ({n}, -1)).flatten(1, 2)"
    text.forward.append(f"keys, values, beta = ({steps} for t in (k, v, beta))")
    if memory.decay:
        pad = f"0, 0, 0, 0, 0, {n - 1}" if memory.decay.kind == "channel" else f"0, 0, 0, {n - 1}"
        text.forward.append(f"g = F.pad(g.unsqueeze(2), ({pad})).flatten(1, 2)  # forget at the first step only")


# Other paths and output


def _paths(text: Text) -> None:
    """Compute the paths beside the memories, and fuse all into `o`."""
    design = text.design
    memories = ["o", "o_second"][: len(design.memories)]
    local = []
    if design.window:
        norm, attend = text.use("rms_norm"), text.use("sliding_window_attention")
        call = f'{attend}({norm}(q), {norm}(k), v, {design.window}, state.get("window"))'
        text.forward.append(f'o_window, after["window"] = {call}')
        local.append("o_window")
    if design.local:
        width = "num_heads * value" if design.values.twice or design.steps() > 1 else "d_model"
        layer = f"{text.use('ShortConvolution')}({width}, kernel_size={design.local}, activation=None)"
        text.init.append(f"self.local = {layer}")
        text.forward.append('o_local, after["local"] = self.local(v.flatten(-2), state.get("local"))')
        text.forward.append("o_local = o_local.unflatten(-1, (self.num_heads, -1))")
        local.append("o_local")
    local += ["v"] if design.identity else []
    if len(memories) + len(local) > 1:
        _fuse(text, memories, local)
    if design.values.residual == "skip":
        text.init.append("self.skip = nn.Parameter(torch.ones(num_heads, 1))")
        text.forward.append("o = o + self.skip * v")


def _fuse(text: Text, memories: list[str], local: list[str]) -> None:
    paths = memories + local
    shares = [f"w_{p.removeprefix('o_') if p != 'o' else 'memory'}" for p in paths]
    fusion = text.design.fusion
    floor = fusion.floor / 100
    shape = "[H, 1]" if fusion.kind == "static" else "[B, T, H, 1]"
    weights = "self.shares()" if fusion.kind == "static" else f"self.shares({text.gates_from})"
    text.forward.append(f"{', '.join(shares)} = {weights}.split(1, dim=-1)  # {shape} each")
    norm = text.use("rms_norm")
    terms = (f"{share} * {norm}({path})" for share, path in zip(shares, paths, strict=True))
    text.forward.append("o = " + " + ".join(terms))
    count = len(paths)
    if fusion.kind == "static":
        text.init.append(f"self.share_logits = nn.Parameter(torch.zeros(num_heads, {count}))")
        _method(text, "shares(self) -> Tensor", f"Give each path's share of a head: [H, {count}].",
                [f"return {_floored('self.share_logits.softmax(-1)', count, floor)}"])  # fmt: skip
    elif fusion.kind == "token":
        text.init.append(f"self.share_logits = nn.Linear(d_model, {count} * num_heads)")
        logits = f"self.share_logits(x).unflatten(-1, (-1, {count}))"
        _method(text, "shares(self, x: Tensor) -> Tensor", f"Give each path's share: [B, T, H, {count}].",
                [f"return {_floored(f'{logits}.softmax(-1)', count, floor)}"])  # fmt: skip
    else:
        _staged(text, len(memories), len(local), floor)


def _staged(text: Text, memories: int, local: int, floor: float) -> None:
    """Gate memory against local paths first, then choose inside each group (arXiv:2507.18074)."""
    sizes = [1, *(size for size in (memories, local) if size > 1)]
    count = sum(sizes)
    text.init.append(f"self.share_logits = nn.Linear(d_model, {count} * num_heads)")
    names = ["gate", *(["memories"] if memories > 1 else []), *(["local"] if local > 1 else [])]
    lines = [
        f"logits = self.share_logits(x).unflatten(-1, (-1, {count}))",
        f"{', '.join(names)} = logits.split({sizes}, dim=-1)",
        f"gate = {_floored('gate.sigmoid()', 2, floor)}  # memory against local paths",
    ]
    groups = []
    for name, share, size in (("memories", "gate", memories), ("local", "(1 - gate)", local)):
        inside = _floored(f"{name}.softmax(-1)", size, floor)
        inside = f"({inside})" if floor and size > 1 else inside
        groups.append(f"{share} * {inside}" if size > 1 else share.strip("()"))
    lines.append(f"return torch.cat([{', '.join(groups)}], dim=-1)")
    shape = f"[B, T, H, {memories + local}]"
    _method(text, "shares(self, x: Tensor) -> Tensor", f"Give each path's share, in two stages: {shape}.", lines)


def _floored(share: str, count: int, floor: float) -> str:
    """Keep each of `count` shares at or above the floor, with a sum of 1."""
    return f"{floor:g} + {1 - count * floor:g} * {share}" if floor else share


def _method(text: Text, signature: str, doc: str, lines: list[str]) -> None:
    text.methods += ["", f"def {signature}:", *_indented([f'"""{doc}"""', *lines])]


def _output(text: Text) -> None:
    """Norm and gate the output of each head, and project it back to the model's width."""
    design, output = text.design, text.design.output
    even = not design.values.twice
    total = "d_model" if even else "2 * d_model"
    gate = ""
    if output.gate != "none":
        narrow = f"nn.Linear(d_model, {output.rank}, bias=False), nn.Linear({output.rank}, {total}, bias=False)"
        layer = f"nn.Sequential({narrow})" if output.rank else f"nn.Linear(d_model, {total}, bias=False)"
        text.init.append(f"self.gate = {layer}")
        text.forward.append(f"gate = self.gate({text.gates_from}).unflatten(-1, (self.num_heads, -1))")
        gate = {"silu": "F.silu(gate)", "sigmoid": "gate.sigmoid()", "double": "2 * gate.sigmoid()"}[output.gate]
    text.init += _norm(text, total)
    if output.norm == "rms" and output.gate in ("silu", "sigmoid"):
        o = f'self.norm(o, gate, activation="{output.gate}").flatten(-2)'
    elif output.norm == "rms":
        o = f"(self.norm(o) * {gate}).flatten(-2)" if gate else "self.norm(o).flatten(-2)"
    else:
        o = f"(o * {gate}).flatten(-2)" if gate else "o.flatten(-2)"
        o = f"self.norm({o})" if output.norm == "all" else o
    text.init.append(f"self.out = nn.Linear({total}, d_model, bias=False)")
    text.forward.append(f"return self.out({o}), after")


def _norm(text: Text, total: str) -> list[str]:
    output = text.design.output
    if output.norm == "none":
        return []
    if output.norm == "all":
        return [f"self.norm = {text.use('RMSNorm')}({total})  # over all heads"]
    kind = "GatedRMSNorm" if output.gate in ("silu", "sigmoid") else "RMSNorm"
    return [f"self.norm = {text.use(kind)}(value)"]
