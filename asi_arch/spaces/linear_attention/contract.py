"""The contract of a linear-attention candidate, as its author reads it: a model or a person."""

CONTRACT = """\
Write one Python file with one token mixer:

    class Mixer(nn.Module):
        def __init__(self, d_model: int, num_heads: int, layer_idx: int = 0)
        def forward(self, x, state=None) -> (y, state)

x and y are float tensors [B, T, D]. state is a tensor, or nested tuples or dicts of tensors, batch
first; None means the start of a sequence. The model around the mixer is ours: embedding, pre-norm,
residual, SwiGLU. It is as large for every mixer: what the mixer spends, SwiGLU gives up.

What forward must obey
- Causal: y[:, t] depends on x[:, :t + 1] and the state only.
- Whole = pieces = tokens: a sequence fed at once, in pieces of any lengths, or one token at a time,
  carrying the state, gives the same y. T = 1 and any other T must work.
- Constant memory: the state's size does not depend on T. Linear cost: work grows as T, not T^2.
- Pure: the same inputs give the same outputs. Nothing is kept between calls but the state: no
  step counters, no writes to attributes, buffers or inputs. Randomness is nn.Dropout only.
- Traceable: the operators that run do not depend on tensor values. No .item(), float(tensor) or
  `if tensor`; use torch.where, clamp or masks. No loop over T: use asi_arch.ops, or loop over chunks.
- Rows alike: a row's y does not depend on the other rows, nor on how many there are.
- Differentiable: every parameter gets a gradient, at every call. No autograd.Function, hook,
  torch.no_grad or autocast. Outputs and gradients stay finite in fp32 and bfloat16.
- Small: at most about 10 D^2 parameters; at most 96 D numbers of state for a sequence; at most twice
  the operations and four times the seconds of the seed.

Imports: torch, math, typing, einops, asi_arch.ops; nothing else.

asi_arch.ops.  q, k: [B, T, H, K]; v, o: [B, T, H, V]; beta: [B, T, H], in (0, 2);
g is the log of a decay, at most 0. Recurrences end with `initial_state=None, scale=None` and return
(o, final_state) with a state of [B, H, K, V]; scale None is K ** -0.5, applied to q.
    linear_attention(q, k, v)                   S = S + k v^T
    retention(q, k, v, g: [H])                  S = exp(g) S + k v^T, fixed decay
    simple_gla(q, k, v, g: [B, T, H])           S = exp(g) S + k v^T, a decay a head (Mamba-2: pass v * dt)
    gla(q, k, v, g: [B, T, H, K])               S = diag(exp(g)) S + k v^T, a decay a channel
    delta_rule(q, k, v, beta)                   S = (I - beta k k^T) S + beta k v^T
    gated_delta_rule(q, k, v, g: [B, T, H], beta)    S = (I - beta k k^T) exp(g) S + beta k v^T
    kda(q, k, v, g: [B, T, H, K], beta)         S = (I - beta k k^T) diag(exp(g)) S + beta k v^T
        Delta rules need keys of unit length (l2norm). A decay a channel is clamped to [-5, 0].
    sliding_window_attention(q, k, v, window, state=None) -> o, state    softmax over the last tokens
    short_conv(x: [B, T, C], weight: [C, W], bias=None, state=None) -> y, state    causal, depthwise
    token_shift(x: [B, T, D], state=None) -> x one token later, state
    rotary(x: [B, T, H, K], offset=None, base=1e4) -> x, offset    positions go on from offset: [B]
    l2norm(x, eps=1e-6), rms_norm(x, weight=None, eps=1e-5)        over the last dimension
    ShortConvolution(channels, kernel_size=4, activation="silu")   layer: (x, state=None) -> y, state
    RMSNorm(dim, eps=1e-5)                                         layer: x -> y
    GatedRMSNorm(dim)            layer: (x, gate, activation="silu" or "sigmoid") -> norm(x) * act(gate)

Example: an additive memory that each head forgets at its own, learned and data-dependent rate.
```python
from torch import nn
from torch.nn import functional as F

from asi_arch.ops import RMSNorm, ShortConvolution, simple_gla


class Mixer(nn.Module):
    def __init__(self, d_model, num_heads, layer_idx=0):
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(d_model, 3 * d_model, bias=False)
        self.conv = ShortConvolution(3 * d_model)
        self.decay = nn.Linear(d_model, num_heads)
        self.norm = RMSNorm(d_model // num_heads)
        self.out = nn.Linear(d_model, d_model, bias=False)

    def forward(self, x, state=None):
        recent, memory = (None, None) if state is None else state
        qkv, recent = self.conv(self.qkv(x), recent)
        q, k, v = qkv.unflatten(-1, (3, self.num_heads, -1)).unbind(2)  # [B, T, H, K] each
        g = F.logsigmoid(self.decay(x) + 4)  # [B, T, H], starts near 0: forget slowly
        o, memory = simple_gla(q, k, v, g, initial_state=memory)
        return self.out(self.norm(o).flatten(-2)), (recent, memory)
```
"""
