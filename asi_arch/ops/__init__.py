"""What a candidate may use: linear-time recurrences as operators, and the small layers around them."""

from asi_arch.ops.functional import l2norm, rms_norm, rotary, token_shift
from asi_arch.ops.layers import GatedRMSNorm, RMSNorm, ShortConvolution
from asi_arch.ops.operators import (
    delta_rule,
    gated_delta_rule,
    gla,
    kda,
    linear_attention,
    retention,
    short_conv,
    simple_gla,
)
from asi_arch.ops.window import sliding_window_attention

__all__ = [
    "GatedRMSNorm",
    "RMSNorm",
    "ShortConvolution",
    "delta_rule",
    "gated_delta_rule",
    "gla",
    "kda",
    "l2norm",
    "linear_attention",
    "retention",
    "rms_norm",
    "rotary",
    "short_conv",
    "simple_gla",
    "sliding_window_attention",
    "token_shift",
]
