"""Name a design by what it is made of."""

from asi_arch.spaces.linear_attention.design import TIME_SCALES, Decay, Design, Memory

MAX_LENGTH = 60  # characters

UPDATES = {
    ("delta", "none"): "Delta",
    ("delta", "fixed"): "FadingDelta",
    ("delta", "learned"): "LeakyDelta",
    ("delta", "scalar"): "GatedDelta",
    ("delta", "channel"): "KimiDelta",
    ("additive", "none"): "Linear",
    ("additive", "fixed"): "Retention",
    ("additive", "learned"): "LeakyLinear",
    ("additive", "scalar"): "ScalarGated",
    ("additive", "channel"): "ChannelGated",
}
WRITES = {"full": "Full", "double": "Signed", "apart": "Apart", "step": "Step", "tied": "Tied"}
FORMS = {"logsigmoid": "Sixteenth", "bounded": "Bounded", "mild": "Mild", "recurrent": "Griffin"}
FEATURES = {"identity": "Plain", "elu1": "Elu", "relu": "Relu", "relu2": "Relu2", "softmax": "Slot",
            "hedgehog": "Hedgehog"}  # fmt: skip
GATES = {"silu": "SiluGate", "sigmoid": "SigmoidGate", "double": "UnitGate"}


def title(design: Design) -> str:
    """Give a name of at most 60 letters and digits: the memories, then what differs from DeltaNet.

    What matters most comes first, since what no longer fits is left out.
    """
    words = [*_memory(design.memories[0])]
    for memory in design.memories[1:]:
        words += ["And", *_memory(memory)]
    words += _paths(design) + _inputs(design) + _output(design)
    name = ""
    for word in words:
        if len(name) + len(word) <= MAX_LENGTH:
            name += word
    return name


def _memory(memory: Memory) -> list[str]:
    kind = memory.decay.kind if memory.decay else "none"
    words = [UPDATES[memory.update, kind]]
    words += [f"Product{memory.steps}"] if memory.steps > 1 else []
    usual = "sigmoid" if memory.update == "delta" else "full"
    words += [WRITES.get(memory.write, "Weighed")] if memory.write != usual else []
    words += ["Average"] if memory.normalised else []
    return words + (_decay(memory.decay) if memory.decay else [])


def _decay(decay: Decay) -> list[str]:
    words = [FORMS[decay.form]] if decay.form in FORMS else []
    words += [decay.scale.capitalize()] if decay.scale != list(TIME_SCALES)[1] else []
    return words + ([f"Rank{decay.rank}"] if decay.rank != Decay().rank else [])


def _paths(design: Design) -> list[str]:
    words = [f"Window{design.window}"] if design.window else []
    words += [f"Local{design.local}"] if design.local else []
    words += ["Identity"] if design.identity else []
    if design.num_paths() > 1:
        words += {"static": [], "token": ["ByToken"], "staged": ["Staged"]}[design.fusion.kind]
        words += [f"Floor{design.fusion.floor}"] if design.fusion.floor else []
    return words


def _inputs(design: Design) -> list[str]:
    keys, values, base = design.keys, design.values, Design()
    words = ["Canon"] if design.canon else []
    if design.convolved != base.convolved:
        words.append(f"Conv{design.convolved.upper()}" if design.convolved else "NoConv")
    words += [f"Kernel{design.kernel}"] if design.kernel != base.kernel else []
    words += [f"Shift{design.shifted.upper()}"] if design.shifted else []
    words += [FEATURES[keys.feature]] if keys.feature in FEATURES else []
    words += [{"none": "Free", "rms": "Scaled"}[keys.norm]] if keys.norm != base.keys.norm else []
    for flag, word in (
        (keys.corrected, "Corrected"),
        (keys.rotary, "Rotary"),
        (keys.half, "HalfKeys"),
        (keys.shared, "OneKey"),
        (values.twice, "WideValues"),
        (values.activation == "none", "LinearValues"),
        (values.residual == "skip", "Skip"),
        (values.residual == "raw", "RawValues"),
    ):
        words += [word] if flag else []
    return words


def _output(design: Design) -> list[str]:
    output = design.output
    words = [("Narrow" if output.rank else "") + GATES[output.gate]] if output.gate in GATES else []
    return words + {"rms": [], "all": ["JointNorm"], "none": ["NoNorm"]}[output.norm]
