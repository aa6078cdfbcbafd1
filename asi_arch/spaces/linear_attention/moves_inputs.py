"""Moves on what is remembered: convolutions, shifts, feature maps, norms, positions, keys and values."""

from asi_arch.researcher.symbolic import Move
from asi_arch.spaces.linear_attention.changes import Change, mixer, move, part, stepped
from asi_arch.spaces.linear_attention.design import Design


def _shift(letters: str) -> Change:
    """Mix the previous token into further inputs."""
    return lambda design: mixer(shifted=design.shifted + letters)(design)


def _kernel(by: int) -> Change:
    def kernel(design: Design) -> int | None:
        return design.kernel if design.convolved else None

    return stepped(Design, "kernel", kernel, lambda value: mixer(kernel=value), by)


CONVOLUTIONS = (
    move(
        "convolve_all",
        mixer(convolved="qkv"),
        ("2406.06484", "2109.08668", "2501.12352"),
        "A short convolution on q, k and v makes keys of neighbouring tokens, which recall by content needs.",
        "much faster learning of recall",
    ),
    move(
        "convolve_keys_and_values",
        mixer(convolved="kv"),
        ("2212.14052", "2312.04927"),
        "A pair is written where its value stands, so the key must look back; a query need not.",
        "recall of a full convolution for less time",
    ),
    move(
        "convolve_keys",
        mixer(convolved="k"),
        ("2212.14052",),
        "Looking back by a token in the keys alone is enough to bind a value to the token before it.",
    ),
    move(
        "drop_convolution",
        mixer(convolved=""),
        ("2510.26692", "2512.17351"),
        "Where another part already looks back by a token, the convolutions of q, k and v are spent twice.",
        "faster steps",
    ),
    move(
        "widen_convolution",
        _kernel(1),
        ("2109.08668", "2302.10866"),
        "A wider short convolution sees whole words of bytes before anything is written.",
    ),
    move(
        "narrow_convolution",
        _kernel(-1),
        ("2109.08668",),
        "A narrower short convolution blurs keys less.",
    ),
    move(
        "add_canon_layer",
        mixer(canon=True),
        ("2512.17351",),
        "A residual convolution of the mixer's input passes local context to gates as well as to q, k, v.",
        "faster learning of local patterns, few parameters",
    ),
    move(
        "drop_canon_layer", mixer(canon=False), ("2406.06484",), "Local context comes from q, k and v alone."
    ),
    move(
        "shift_keys",
        _shift("k"),
        ("2212.14052", "2209.11895"),
        "Keys made from the token before build the first half of an induction circuit inside one layer.",
        "faster learning of recall",
    ),
    move(
        "shift_keys_and_values",
        _shift("kv"),
        ("2503.02130",),
        "Keys and values that blend in the token before them bind neighbours, while queries stay sharp.",
    ),
    move(
        "shift_all",
        _shift("qkv"),
        ("2305.13048", "2404.05892"),
        "Each projection learns its own share of the token before, channel by channel.",
    ),
    move(
        "shift_gates",
        _shift("g"),
        ("2305.13048", "2404.05892"),
        "What to forget and to write depends on what came just before; gates that see two tokens can tell.",
    ),
    move(
        "drop_shift",
        mixer(shifted=""),
        ("2406.06484",),
        "With short convolutions in place, the shift of tokens adds little and costs a projection each.",
    ),
)

FEATURES = (
    move(
        "use_silu_features",
        part("keys", feature="silu"),
        ("2406.06484",),
        "SiLU keeps q and k mostly positive, yet lets them be opposed; the delta rule was tuned with it.",
    ),
    move(
        "use_linear_features",
        part("keys", feature="identity"),
        ("2307.08621",),
        "Without a feature map keys may point in all directions, so more of them fit one head.",
    ),
    move(
        "use_elu_features",
        part("keys", feature="elu1"),
        ("2006.16236",),
        "elu(x) + 1 makes all similarities positive, so that a read is an average.",
    ),
    move(
        "use_relu_features",
        part("keys", feature="relu"),
        ("2202.08791",),
        "ReLU features are sparse: keys that share no channel do not disturb each other.",
    ),
    move(
        "use_squared_relu_features",
        part("keys", feature="relu2"),
        ("2109.08668", "2402.10644"),
        "Squaring stresses the strongest channels, a quadratic kernel that separates keys better.",
    ),
    move(
        "use_softmax_features",
        part("keys", feature="softmax"),
        ("2110.02488", "2409.07146"),
        "A softmax over a head's channels addresses them like slots, so writes go to few places.",
    ),
    move(
        "use_hedgehog_features",
        part("keys", feature="hedgehog"),
        ("2402.04347",),
        "A learned map with a softmax of both signs gives the spiky, monotone weights of softmax attention.",
        "sharper recall, few parameters",
    ),
    move(
        "normalise_keys",
        part("keys", norm="l2"),
        ("2010.04245", "2406.06484"),
        "Keys of unit length write and read with equal weight, and keep every update stable.",
    ),
    move(
        "scale_keys",
        part("keys", norm="rms"),
        ("2309.14322", "2010.04245"),
        "An RMS norm with a learned scale of each channel keeps scores bounded at a high learning rate.",
    ),
    move(
        "free_keys",
        part("keys", norm="none"),
        ("2307.08621", "2312.06635"),
        "The length of a key can say how much it matters, if no norm takes it away.",
    ),
    move(
        "rotate_keys",
        part("keys", rotary=True),
        ("2104.09864", "2307.08621"),
        "Rotary positions let a head tell near from far by phase.",
    ),
    move(
        "drop_positions",
        part("keys", rotary=False),
        ("2510.26692",),
        "Decay and convolution already say what is near; rotations only blur equal keys at other distances.",
        "better recall at any distance",
    ),
    move(
        "halve_keys",
        part("keys", half=True),
        ("2312.06635",),
        "Half the key channels halve the state and two projections; the SwiGLU gets what is saved.",
        "cheaper, less room for pairs",
    ),
    move(
        "restore_keys",
        part("keys", half=False),
        ("2312.04927", "2402.01032"),
        "What can be recalled is bounded by the state; full key channels double it.",
    ),
    move(
        "share_keys",
        part("keys", shared=True),
        ("2405.21060",),
        "One query and one key for all heads, as a state space's B and C, leave parameters to the rest.",
    ),
    move(
        "separate_keys",
        part("keys", shared=False),
        ("2406.06484", "2312.04927"),
        "Heads with keys of their own store different pairs.",
    ),
    move(
        "correct_query",
        part("keys", corrected=True),
        ("2506.02475",),
        "Reading with q - d k takes the token's own fresh write out of its answer, a feedback on the output.",
    ),
    move(
        "drop_correction",
        part("keys", corrected=False),
        ("2406.06484",),
        "The query alone decides what is read.",
    ),
)

VALUES = (
    move(
        "double_values",
        part("values", twice=True),
        ("2412.06464", "2307.08621"),
        "Values twice as wide double the state where it costs no more keys.",
        "better recall and text; wider projections take from the SwiGLU",
    ),
    move(
        "single_values",
        part("values", twice=False),
        ("2406.06484",),
        "Wide values spend parameters that the SwiGLU may use better.",
    ),
    move(
        "activate_values",
        part("values", activation="silu"),
        ("2406.06484",),
        "A SiLU on the values makes what is written a choice of features, not a copy.",
    ),
    move(
        "linear_values",
        part("values", activation="none"),
        ("2307.08621", "2402.01032"),
        "Values without activation can be copied out exactly as they came in.",
        "better copying",
    ),
    move(
        "add_value_skip",
        part("values", residual="skip"),
        ("2503.14456", "2405.21060"),
        "The token's own value passes around the memory, which need not spend a write on it.",
    ),
    move(
        "mix_raw_values",
        part("values", residual="raw"),
        ("2410.17897",),
        "Values from before the convolution, mixed back in by channel, keep what smoothing and SiLU removed.",
    ),
    move(
        "drop_value_residual",
        part("values", residual="none"),
        ("2406.06484",),
        "Without a way around it the memory gets the whole gradient.",
    ),
)

INPUT_MOVES: tuple[Move, ...] = (*CONVOLUTIONS, *FEATURES, *VALUES)
