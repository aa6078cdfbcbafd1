"""Write the recurrences: what they forget, how strongly they write, and the op that runs them."""

from asi_arch.spaces.linear_attention.design import TIME_SCALES, Decay, Memory
from asi_arch.spaces.linear_attention.render_inputs import key_width
from asi_arch.spaces.linear_attention.render_text import Text, linear


def memories(text: Text) -> None:
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
        text.forward.append(f"o = o[:, {memory.steps - 1} :: {memory.steps}]  # after each token's last step")
    if memory.normalised:
        text.forward.append(f"{names['o']} = {names['o']}[..., :-1] / ({names['o']}[..., -1:] + 1e-6)")


def recurrence(memory: Memory) -> str:
    """Give the name of the op that computes a memory."""
    kind = memory.decay.kind if memory.decay else "none"
    if memory.update == "delta":
        return {"none": "delta_rule", "channel": "kda"}.get(kind, "gated_delta_rule")
    return {"none": "linear_attention", "scalar": "simple_gla", "channel": "gla"}.get(kind, "retention")


def _decay(text: Text, memory: Memory, suffix: str, names: dict[str, str]) -> None:
    """Compute the log decay g of a memory; its parameters start at the decay's time scales."""
    decay = memory.decay
    assert decay is not None
    slow, fast = TIME_SCALES[decay.scale]
    over = key_width(text.design) if decay.kind == "channel" else "num_heads"
    where = "channel of each head" if decay.kind == "channel" else "head"
    repeat = ".repeat(num_heads)" if decay.kind == "channel" else ""
    exponents = f"{slow.bit_length() - 1}, {fast.bit_length() - 1}"
    text.init.append(
        f"# At the start, time scales from {slow} tokens at the first {where} to {fast} at the last."
    )
    text.init.append(f"rate = (0.5 ** torch.linspace({exponents}, {over})){repeat}")
    if decay.kind in ("fixed", "learned"):
        _constant_decay(text, memory, suffix, names)
        return
    gate, out = f"self.decay{suffix}", "num_heads" if decay.kind == "scalar" else f"num_heads * {over}"
    if out == "num_heads * head":
        out = "d_model"
    text.init.append(f"{gate} = {linear(out, decay.rank if decay.kind == 'channel' else 0)}")
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
        start = "torch.expm1(rate / 4).log()"
        return [f"self.decay_rate{suffix} = nn.Parameter({start})  # the gate starts at 1/2"]
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
        step = f"{'dt' if as_step else 'speed'}{suffix}"
        lines = [f"{step} = F.softplus({gate} + {bias})  {'' if channel else shape}".rstrip()]
        lines += [f"{step} = {step}{heads}  {shape}"] if channel else []
        return [*lines, f"g{suffix} = -{rate} * {step}"]
    z = f"{gate} + {bias}"
    value = {
        "logsigmoid": f"F.logsigmoid({z}) / 16",
        "bounded": f"-5 * ({z}).sigmoid()",
        "mild": f"-0.606531 * ({z}).sigmoid()",
        "recurrent": f"-8 * F.softplus(self.decay_rate{suffix}) * {gate}.sigmoid()",
    }[decay.form]
    lines = [f"g{suffix} = {value}  {'' if channel else shape}".rstrip()]
    return lines + ([f"g{suffix} = g{suffix}{heads}  {shape}"] if channel else [])


def _write(text: Text, memory: Memory, suffix: str, names: dict[str, str]) -> None:
    """Compute the write strength; `names` gets what is passed to the op as v and k."""
    n, source = memory.steps, text.gates_from
    if memory.write in ("sigmoid", "double", "apart"):
        width = f"{n} * num_heads" if n > 1 else "num_heads"
        text.init.append(f"self.beta{suffix} = nn.Linear(d_model, {width}, bias=False)")
        gate = f"self.beta{suffix}({source}).sigmoid()"
        gate = f"2 * {gate}" if memory.write == "double" else gate
        text.forward.append(f"{names['beta']} = {gate}  # [B, T, {n} H]".replace(" 1 H", " H"))
    elif memory.update == "delta":
        heads = f"{n} * self.num_heads" if n > 1 else "self.num_heads"
        text.forward.append(f"{names['beta']} = x.new_ones(*x.shape[:2], {heads})")
    if memory.write == "apart":
        text.init.append(f"self.write{suffix} = nn.Linear(d_model, num_heads, bias=False)")
        text.forward.append(f"write{suffix} = 2 * self.write{suffix}({source}).sigmoid()  # [B, T, H]")
        names["v"] = f"v * write{suffix}.unsqueeze(-1)"
    if memory.update == "additive":
        _write_additively(text, memory, suffix, names)


def _write_additively(text: Text, memory: Memory, suffix: str, names: dict[str, str]) -> None:
    """Apply the write strength to values or keys: an additive op has no beta."""
    strength = {"sigmoid": names["beta"], "step": f"dt{suffix}"}.get(memory.write, "")
    if memory.normalised:
        text.forward.append("# One more value, always 1, sums the weights.")
        names["v"] = "F.pad(v, (0, 1), value=1.0)"
    if strength:
        names["v"] += f" * {strength}.unsqueeze(-1)"
    if memory.write == "tied":
        names["k"] = f"-torch.expm1({names['g']}) * k"


def _interleave(text: Text, memory: Memory, names: dict[str, str]) -> None:
    """Lay the steps of a token one after another in time (arXiv:2502.10297)."""
    n = memory.steps
    names |= {"q": f"q.repeat_interleave({n}, dim=1)", "k": "keys", "v": "values", "beta": "beta"}
    text.forward.append(f"# {n} steps for each token: [B, T, {n} H, ...] -> [B, {n} T, H, ...].")
    steps = f"t.unflatten(2, ({n}, -1)).flatten(1, 2)"
    text.forward.append(f"keys, values, beta = ({steps} for t in (k, v, beta))")
    if memory.decay:
        pad = f"0, 0, 0, 0, 0, {n - 1}" if memory.decay.kind == "channel" else f"0, 0, 0, {n - 1}"
        text.forward.append(f"g = F.pad(g.unsqueeze(2), ({pad})).flatten(1, 2)  # only the first forgets")


FACTORS = {"fixed": "exp(g) ", "learned": "exp(g) ", "scalar": "exp(g_t) ", "channel": "diag(exp g_t) "}
STRENGTHS = {"full": "", "step": "dt_t ", "tied": "(1 - exp g_t) "}


def formula(memory: Memory) -> str:
    """Give a memory's recurrence as a line of text."""
    decay = FACTORS[memory.decay.kind] if memory.decay else ""
    strength = STRENGTHS.get(memory.write, "beta_t ")
    if memory.update == "delta":
        written = strength + ("w_t " if memory.write == "apart" else "")
        rule = f"S_t = (I - {strength}k_t k_t^T) {decay}S_(t-1) + {written}k_t v_t^T"
        return rule + (f", {memory.steps} times for each token" if memory.steps > 1 else "")
    rule = f"S_t = {decay}S_(t-1) + {strength}k_t v_t^T"
    return rule + (", read as S_t^T q_t / (z_t . q_t)" if memory.normalised else "")
