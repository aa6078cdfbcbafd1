"""Write the paths beside the memories, their fusion, and the output."""

from asi_arch.spaces.linear_attention.render_inputs import value_width
from asi_arch.spaces.linear_attention.render_text import Text, linear

GATES = {"silu": "F.silu(gate)", "sigmoid": "gate.sigmoid()", "double": "(2 * gate.sigmoid())"}


def outputs(text: Text) -> None:
    """Write the lines from the memories' outputs to the mixer's."""
    _paths(text)
    _output(text)


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
        width = "2 * d_model" if design.values.twice else "d_model"
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
        text.method("shares(self) -> Tensor", f"Give each path's share of a head: [H, {count}].",
                [f"return {_floored('self.share_logits.softmax(-1)', count, floor)}"])  # fmt: skip
    elif fusion.kind == "token":
        text.init.append(f"self.share_logits = nn.Linear(d_model, {count} * num_heads)")
        logits = f"self.share_logits(x).unflatten(-1, (-1, {count}))"
        text.method("shares(self, x: Tensor) -> Tensor", f"Give each path's share: [B, T, H, {count}].",
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
    doc = f"Give each path's share, in two stages: [B, T, H, {memories + local}]."
    text.method("shares(self, x: Tensor) -> Tensor", doc, lines)


def _floored(share: str, count: int, floor: float) -> str:
    """Keep each of `count` shares at or above the floor, with a sum of 1."""
    return f"{floor:g} + {1 - count * floor:g} * {share}" if floor else share


def _output(text: Text) -> None:
    """Norm and gate the output of each head, and project it back to the model's width."""
    design, output = text.design, text.design.output
    total = "2 * d_model" if design.values.twice else "d_model"
    gate = ""
    if output.gate != "none":
        text.init.append(f"self.gate = {linear(total, output.rank)}")
        text.forward.append(f"gate = self.gate({text.gates_from}).unflatten(-1, (self.num_heads, -1))")
        gate = GATES[output.gate]
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
    return [f"self.norm = {text.use(kind)}({value_width(text.design)})"]
