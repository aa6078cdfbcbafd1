"""Write how queries, keys and values are made from the tokens."""

from asi_arch.spaces.linear_attention.design import CANON, Design
from asi_arch.spaces.linear_attention.render_text import Text


def inputs(text: Text) -> None:
    """Write the lines that end with q, k: [B, T, H, K] and v: [B, T, H, V], or n H heads for n steps."""
    _projections(text)
    _convolutions(text)
    _values(text)
    _features(text)


def _projections(text: Text) -> None:
    """Project the token, or its mix with the one before, to q, k and v."""
    design = text.design
    text.init += _head_sizes(design)
    if not _even(design):
        text.init.append(f"self.widths = [{', '.join(_width(design, c) for c in 'qkv')}]  # of q, k, v")
    if design.canon:
        layer = f"{text.use('ShortConvolution')}(d_model, kernel_size={CANON}, activation=None)"
        text.init.append(f"self.canon = {layer}")
        text.forward.append('recent, after["canon"] = self.canon(x, state.get("canon"))')
        text.forward.append("x = x + recent")
    if design.shifted:
        _shift(text)
    if not set("qkv") & set(design.shifted):
        text.init.append(f"self.qkv = nn.Linear(d_model, {_total(design)}, bias=False)")
        text.forward.append("qkv = self.qkv(x)")
        return
    text.init += [f"self.{c} = nn.Linear(d_model, {_width(design, c)}, bias=False)" for c in "qkv"]
    projected = ", ".join(f"self.{c}(x_{c})" if c in design.shifted else f"self.{c}(x)" for c in "qkv")
    text.forward.append(f"qkv = torch.cat([{projected}], dim=-1)")


def _even(design: Design) -> bool:
    """Tell whether q, k and v are all as wide as the model."""
    return {_width(design, c) for c in "qkv"} == {"d_model"}


def _width(design: Design, c: str) -> str:
    """Give the channels of q, k or v, of all heads and steps, as an expression."""
    times = design.steps() if c != "q" else 1
    if c == "v":
        times *= 2 if design.values.twice else 1
    elif design.keys.shared:
        return key_width(design)
    elif design.keys.half:
        return "d_model // 2" if times == 1 else f"{times} * (d_model // 2)"
    return "d_model" if times == 1 else f"{times} * d_model"


def _total(design: Design) -> str:
    return "3 * d_model" if _even(design) else "sum(self.widths)"


def key_width(design: Design) -> str:
    """Give the variable of `__init__` that holds K."""
    return "key" if design.keys.half else "head"


def value_width(design: Design) -> str:
    """Give the variable of `__init__` that holds V."""
    return "value" if design.values.twice else "head"


def _head_sizes(design: Design) -> list[str]:
    """Give the lines that name K and V, as far as they are used."""
    channels = any(m.decay and m.decay.kind == "channel" for m in design.memories)
    key = channels or design.keys.shared or design.keys.feature == "hedgehog" or design.keys.norm == "rms"
    value = design.output.norm == "rms"
    lines = ["head = d_model // num_heads"] if key or value else []
    lines += ["key = head // 2"] if key and design.keys.half else []
    return lines + (["value = 2 * head"] if value and design.values.twice else [])


def _shift(text: Text) -> None:
    """Mix the token with the one before it, for each use on its own (arXiv:2305.13048)."""
    text.init.append("# Share of the token before, by channel: from none to all.")
    text.forward.append(f'before, after["last"] = {text.use("token_shift")}(x, state.get("last"))')
    for c in text.design.shifted:
        text.init.append(f"self.shift_{c} = nn.Parameter(torch.linspace(0, 1, d_model))")
        text.forward.append(f"x_{c} = x + self.shift_{c} * (before - x)")


def _split(design: Design) -> str:
    return "chunk(3, dim=-1)" if _even(design) else "split(self.widths, dim=-1)"


def _convolutions(text: Text) -> None:
    """Let q, k, v see the last few tokens; end with q, k, v: [B, T, channels]."""
    design, split = text.design, _split(text.design)
    whole = design.convolved == "qkv"
    if whole:
        if design.values.residual == "raw":
            text.forward.append(f"raw = qkv.{split}[2]")
        _convolution(text, "conv", "qkv", _total(design), _convolution_activates(design, "q"))
    text.forward.append(f"q, k, v = qkv.{split}")
    if whole:
        return
    if design.values.residual == "raw":
        text.forward.append("raw = v")
    for c in design.convolved:
        _convolution(text, f"{c}_conv", c, _width(design, c), _convolution_activates(design, c))


def _convolution(text: Text, layer: str, variable: str, width: str, silu: bool) -> None:
    made = text.use("ShortConvolution")
    activation = '"silu"' if silu else "None"
    options = f"kernel_size={text.design.kernel}, activation={activation}"
    text.init.append(f"self.{layer} = {made}({width}, {options})")
    text.forward.append(f'{variable}, after["{layer}"] = self.{layer}({variable}, state.get("{layer}"))')


def _convolution_activates(design: Design, c: str) -> bool:
    """Tell whether the convolution of q, k or v applies its SiLU; one for all does if all have one."""
    keys, values = design.keys.feature == "silu", design.values.activation == "silu"
    if design.convolved == "qkv":
        return keys and values
    return c in design.convolved and (values if c == "v" else keys)


def _values(text: Text) -> None:
    """Activate the values, and mix them with those before the convolution."""
    design = text.design
    if design.values.activation == "silu" and not _convolution_activates(design, "v"):
        text.forward.append("v = F.silu(v)")
    if design.values.residual == "raw":
        text.init.append(f"self.value_mix = nn.Parameter(torch.zeros({_width(design, 'v')}))")
        text.forward.append("v = raw + self.value_mix.sigmoid() * (v - raw)  # raw: before the convolution")


def _features(text: Text) -> None:
    """Split heads, apply feature map and norm, turn by position; q, k [B, T, H, K], v [B, T, H, V]."""
    design, keys = text.design, text.design.keys
    groups = "1" if keys.shared else "self.num_heads"
    n = f"{design.steps()} * " if design.steps() > 1 else ""
    if keys.shared or n:
        comment = "# [B, T, 1, K]" if keys.shared else f"# [B, T, {n.removesuffix(' * ')} H, K]"
        text.forward.append(f"q = q.unflatten(-1, ({groups}, -1))")
        text.forward.append(f"k = k.unflatten(-1, ({n}{groups}, -1))  {comment}")
        text.forward.append(f"v = v.unflatten(-1, ({n}self.num_heads, -1))")
    else:
        text.forward.append("# [B, T, H, K], values [B, T, H, V]")
        text.forward.append("q, k, v = (t.unflatten(-1, (self.num_heads, -1)) for t in (q, k, v))")
    q, k = _feature(text, "q"), _feature(text, "k")
    if keys.norm == "l2":
        q, k = (f"{text.use('l2norm')}({t})" for t in (q, k))
    elif keys.norm == "rms":
        norm = text.use("RMSNorm")
        text.init += [f"self.{c}_norm = {norm}({key_width(design)})" for c in "qk"]
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
    if keys.corrected:
        text.init.append("self.correction = nn.Parameter(torch.zeros(num_heads, 1))")
        text.forward.append("q = q - self.correction * k")


def _feature(text: Text, name: str) -> str:
    """Give the feature map of q or k as an expression."""
    design = text.design
    feature = design.keys.feature
    if feature == "hedgehog":
        groups = "1" if design.keys.shared else "num_heads"
        count = f"{design.steps()} * {groups}" if name == "k" and design.steps() > 1 else groups
        key = key_width(design)
        random = f"torch.randn({count}, {key}, {key} // 2) * {key}**-0.5"
        text.init.append(f"self.{name}_feature = nn.Parameter({random})")
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
