"""The small layers: equal to their formulas, exact over any cut of the sequence, pure when exported."""

import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from asi_arch import ops
from asi_arch.ops import naive

torch.set_num_threads(1)

DTYPES = (torch.float32, torch.float64, torch.bfloat16)


def pieces(run, tensors, state, cuts):
    """Feed the tokens between the cuts one after the other, carrying the state."""
    parts = []
    for start, stop in itertools.pairwise(cuts):
        part, state = run(*(t[:, start:stop] for t in tensors), state)
        parts.append(part)
    return torch.cat(parts, 1), state


def cuts_of(length):
    return [(0, 1, length // 2, length), tuple(range(length + 1))]


def leaves_of(state):
    return [t for t in torch.utils._pytree.tree_leaves(state) if isinstance(t, torch.Tensor)]


@pytest.mark.parametrize("dtype", DTYPES)
def test_norms_keep_the_dtype_and_have_unit_size(dtype):
    torch.manual_seed(0)
    x = (5 * torch.randn(3, 7, 16)).to(dtype)
    one = torch.ones(3, 7, dtype=torch.float32)
    assert ops.l2norm(x).dtype == ops.rms_norm(x).dtype == dtype
    tolerance = 1e-2 if dtype == torch.bfloat16 else 1e-5
    torch.testing.assert_close(ops.l2norm(x).float().norm(dim=-1), one, atol=tolerance, rtol=0.0)
    rms = ops.rms_norm(x).float().square().mean(-1)
    torch.testing.assert_close(rms, one, atol=2 * tolerance, rtol=0.0)


def test_l2norm_has_eps_inside_the_root_and_a_finite_gradient_at_zero():
    x = torch.zeros(2, 4, requires_grad=True)
    ops.l2norm(x).sum().backward()
    torch.testing.assert_close(x.grad, torch.full((2, 4), 1e3))
    torch.testing.assert_close(ops.l2norm(torch.tensor([3.0, 4.0]), eps=11.0), torch.tensor([0.5, 4 / 6]))


def test_rms_norm_equals_torch():
    torch.manual_seed(0)
    x, weight = torch.randn(2, 5, 8), torch.randn(8)
    torch.testing.assert_close(ops.rms_norm(x, weight), F.rms_norm(x, (8,), weight, 1e-5))
    layer = ops.RMSNorm(8, eps=0.1)
    torch.testing.assert_close(layer(x), F.rms_norm(x, (8,), None, 0.1))
    x = torch.zeros(2, 8, requires_grad=True)
    ops.rms_norm(x).sum().backward()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize(("activation", "function"), [("silu", F.silu), ("sigmoid", torch.sigmoid)])
def test_a_gated_norm_is_a_norm_times_an_activation(activation, function):
    torch.manual_seed(0)
    x, gate, layer = torch.randn(2, 5, 8), torch.randn(2, 5, 8), ops.GatedRMSNorm(8)
    nn.init.normal_(layer.weight)
    torch.testing.assert_close(layer(x, gate, activation), ops.rms_norm(x, layer.weight) * function(gate))


def test_an_unknown_activation_is_refused():
    with pytest.raises(ValueError, match="'relu': give 'silu' or 'sigmoid'"):
        ops.GatedRMSNorm(8)(torch.zeros(1, 8), torch.zeros(1, 8), "relu")
    with pytest.raises(ValueError, match="'relu': give 'silu' or None"):
        ops.ShortConvolution(8, activation="relu")


def test_rotary_products_depend_on_distance_only():
    torch.manual_seed(0)
    q, k = (torch.randn(1, 1, 1, 16, dtype=torch.float64).expand(1, 40, 1, 16) for _ in range(2))
    turned_q, turned_k = ops.rotary(q)[0][0, :, 0], ops.rotary(k)[0][0, :, 0]
    scores = turned_q @ turned_k.T
    for distance in (0, 1, 17):
        same = scores.diagonal(-distance)
        torch.testing.assert_close(same, same[:1].expand_as(same))
    assert (scores.diagonal(0)[0] - scores.diagonal(-17)[0]).abs() > 1e-3


def test_rotary_turns_each_pair_by_its_own_speed():
    x = torch.zeros(1, 4, 1, 4, dtype=torch.float64)
    x[..., 0], x[..., 3] = 1.0, 1.0  # pairs (0, 2) and (1, 3)
    y, offset = ops.rotary(x, base=100.0)
    t = torch.arange(4, dtype=torch.float64)
    want = torch.stack([t.cos(), -(t / 10).sin(), t.sin(), (t / 10).cos()], -1)
    torch.testing.assert_close(y[0, :, 0], want)
    assert torch.equal(offset, torch.tensor([4]))


@pytest.mark.parametrize("dtype", DTYPES)
def test_rotary_continues_bit_for_bit(dtype):
    torch.manual_seed(0)
    x = torch.randn(2, 31, 3, 8).to(dtype)
    y, offset = ops.rotary(x)
    assert y.dtype == dtype
    for cuts in cuts_of(31):
        parts, carried = pieces(ops.rotary, (x,), None, cuts)
        assert torch.equal(parts, y)
        assert torch.equal(carried, offset)


def test_rotary_offsets_may_differ_by_row_and_odd_heads_are_refused():
    torch.manual_seed(0)
    x = torch.randn(1, 10, 1, 8)
    whole, _ = ops.rotary(x)
    two = torch.cat([x[:, 3:5], x[:, 7:9]])
    y, offset = ops.rotary(two, torch.tensor([3, 7]))
    assert torch.equal(y, torch.cat([whole[:, 3:5], whole[:, 7:9]]))
    assert torch.equal(offset, torch.tensor([5, 9]))
    with pytest.raises(ValueError, match="K = 7"):
        ops.rotary(torch.zeros(1, 1, 1, 7))


def test_token_shift_gives_the_token_before():
    torch.manual_seed(0)
    x = torch.randn(2, 9, 4)
    y, state = ops.token_shift(x)
    assert torch.equal(y[:, 1:], x[:, :-1])
    assert (y[:, 0] == 0).all()
    assert torch.equal(state, x[:, -1:])
    for cuts in cuts_of(9):
        parts, carried = pieces(ops.token_shift, (x,), None, cuts)
        assert torch.equal(parts, y)
        assert torch.equal(carried, state)


@pytest.mark.parametrize("window", [1, 2, 8, 40])
def test_window_attention_equals_a_masked_softmax_and_its_twin(window):
    for length in (1, 7, 8, 9, 31):
        torch.manual_seed(length)
        q, k, v = (torch.randn(2, length, 2, 4, dtype=torch.float64, requires_grad=True) for _ in range(3))
        o, _ = ops.sliding_window_attention(q, k, v, window)
        band = torch.ones(length, length, dtype=torch.bool).tril().triu(1 - window)
        dense = F.scaled_dot_product_attention(*(t.transpose(1, 2) for t in (q, k, v)), attn_mask=band)
        torch.testing.assert_close(o, dense.transpose(1, 2))
        want = naive.sliding_window_attention(q, k, v, window)
        torch.testing.assert_close(o, want)
        weight = torch.randn_like(o)
        mine, theirs = (torch.autograd.grad(t, (q, k, v), weight) for t in (o, want))
        for a, b in zip(mine, theirs, strict=True):
            torch.testing.assert_close(a, b)


@pytest.mark.parametrize("window", [1, 2, 8, 40])
def test_window_attention_goes_on_from_any_cut_with_a_state_of_constant_size(window):
    torch.manual_seed(0)
    tensors = [torch.randn(2, 31, 2, size, dtype=torch.float64) for size in (4, 4, 3)]

    def run(q, k, v, state):
        return ops.sliding_window_attention(q, k, v, window, state)

    o, state = run(*tensors, None)
    sizes = [(2, window - 1, 2, 4), (2, window - 1, 2, 3), (2, window - 1)]
    assert [tuple(t.shape) for t in state] == sizes
    for cuts in [*cuts_of(31), (0, 5, 6, 25, 31)]:
        parts, carried = pieces(run, tensors, None, cuts)
        torch.testing.assert_close(parts, o, rtol=1e-12, atol=1e-12)
        assert all(torch.equal(a, b) for a, b in zip(carried, state, strict=True))


def test_window_attention_is_causal_and_forgets_what_left_the_window():
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, 32, 1, 4) for _ in range(3))
    o, _ = ops.sliding_window_attention(q, k, v, 8)
    other_k, other_v = k.clone(), v.clone()
    other_k[:, 16], other_v[:, 16] = 50.0, 1e6
    other, _ = ops.sliding_window_attention(q, other_k, other_v, 8)
    assert torch.equal(other[:, :16], o[:, :16])
    assert torch.equal(other[:, 24:], o[:, 24:])
    assert (other[:, 16:24] - o[:, 16:24]).abs().amax((0, 2, 3)).min() > 0


def test_window_attention_keeps_the_dtype_and_refuses_an_empty_window():
    q = torch.randn(1, 5, 1, 4).bfloat16()
    assert ops.sliding_window_attention(q, q, q, 4)[0].dtype == torch.bfloat16
    with pytest.raises(ValueError, match="window is 0"):
        ops.sliding_window_attention(q, q, q, 0)


@pytest.mark.parametrize("activation", ["silu", None])
def test_a_short_convolution_is_the_operator_and_an_activation(activation):
    torch.manual_seed(0)
    layer, x = ops.ShortConvolution(6, 3, activation), torch.randn(2, 9, 6)
    y, state = layer(x)
    want, _ = naive.short_conv(x, layer.weight)
    want = want.float()
    torch.testing.assert_close(y, F.silu(want) if activation else want)
    for cuts in cuts_of(9):
        parts, carried = pieces(layer, (x,), None, cuts)
        torch.testing.assert_close(parts, y)
        assert torch.equal(carried, state)


class Everything(nn.Module):
    """A mixer made of all the layers, as a candidate would write it."""

    def __init__(self, d_model, num_heads):
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(d_model, 3 * d_model)
        self.gates = nn.Linear(d_model, 2 * num_heads)
        self.conv = ops.ShortConvolution(3 * d_model)
        self.first = ops.RMSNorm(d_model)
        self.last = ops.GatedRMSNorm(d_model // num_heads)
        self.out = nn.Linear(d_model, d_model)

    def forward(self, x, state=None):
        memory, conv, position, shift, window = (None,) * 5 if state is None else state
        before, shift = ops.token_shift(x, shift)
        h, conv = self.conv(self.qkv(self.first(x) + before), conv)
        q, k, v = (t.unflatten(-1, (self.num_heads, -1)) for t in h.chunk(3, -1))
        near_q, after = ops.rotary(q, position)
        near_k, _ = ops.rotary(k, position)
        near, window = ops.sliding_window_attention(near_q, near_k, v, 8, window)
        decay, beta = self.gates(x).chunk(2, -1)
        far, memory = ops.gated_delta_rule(
            ops.l2norm(q), ops.l2norm(k), v, F.logsigmoid(decay), 2 * beta.sigmoid(), memory
        )
        return self.out(self.last(far + near, q).flatten(2)), (memory, conv, after, shift, window)


def test_a_mixer_of_all_layers_is_the_same_whole_in_pieces_and_token_by_token():
    torch.manual_seed(0)
    mixer, x = Everything(16, 2).double(), torch.randn(2, 21, 16, dtype=torch.float64)
    y, state = mixer(x)
    for cuts in cuts_of(21):
        parts, carried = pieces(mixer, (x,), None, cuts)
        torch.testing.assert_close(parts, y, rtol=1e-9, atol=1e-9)
        for a, b in zip(leaves_of(carried), leaves_of(state), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
    y.square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in mixer.parameters())


@pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec:FutureWarning")
@pytest.mark.parametrize(("length", "carried"), [(21, False), (1, True)])
def test_a_mixer_of_all_layers_exports_to_a_pure_graph_for_every_batch(length, carried):
    torch.manual_seed(0)
    mixer = Everything(16, 2)
    rows = {0: torch.export.Dim("B", min=1, max=1024)}
    inputs = [torch.randn(5, length, 16), *([mixer(torch.randn(5, 3, 16))[1]] if carried else [])]
    args = torch.utils._pytree.tree_map(lambda t: t[:3].detach(), tuple(inputs))
    shapes = torch.utils._pytree.tree_map(lambda _: rows, args)
    dynamic = dict(zip(("x", "state"), shapes, strict=False))
    program = torch.export.export(mixer, args, strict=False, dynamic_shapes=dynamic).run_decompositions({})
    for node in program.graph.nodes:
        if isinstance(node.target, torch._ops.OpOverload):
            assert not node.target._schema.is_mutable
    assert {s.kind.name for s in program.graph_signature.output_specs} == {"USER_OUTPUT"}
    graph = program.module()
    for batch in (1, 5):
        args = torch.utils._pytree.tree_map(lambda t, batch=batch: t[:batch].detach(), tuple(inputs))
        for a, b in zip(leaves_of(graph(*args)), leaves_of(mixer(*args)), strict=True):
            torch.testing.assert_close(a, b)
