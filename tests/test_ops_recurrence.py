"""The chunkwise recurrence against its step-by-step twin in float64: outputs, states and all gradients."""

import itertools
import math

import pytest
import torch
from torch.nn import functional as F

from asi_arch.ops import naive
from asi_arch.ops.operators import INLINE
from asi_arch.ops.recurrence import LONG, recurrence
from asi_arch.ops.triangular import unit_lower_inverse

torch.set_num_threads(1)

NAMES = ("linear_attention", "retention", "simple_gla", "gla", "delta_rule", "gated_delta_rule", "kda")
GATED = ("retention", "simple_gla", "gla", "gated_delta_rule", "kda")
CHANNEL = ("gla", "kda")
DELTA = ("delta_rule", "gated_delta_rule", "kda")


def make(name, length, state=True, batch=2, heads=2, key=8, value=6):
    """Give the tensors of one operator by name, in float64."""
    torch.manual_seed(length)
    shape = (batch, length, heads)
    given = {
        "q": torch.randn(*shape, key),
        "k": F.normalize(torch.randn(*shape, key), dim=-1),
        "v": torch.randn(*shape, value),
    }
    if name in GATED:
        g = -torch.rand(*{"retention": (heads,), "gla": (*shape, key), "kda": (*shape, key)}.get(name, shape))
        given["g"] = g * 0.3
    if name in DELTA:
        given["beta"] = 2 * torch.rand(shape)
    if state:
        given["initial_state"] = torch.randn(batch, heads, key, value)
    return {n: t.double() for n, t in given.items()}


def derive(run, given):
    """Give o, the final state and the gradient of every tensor, for fixed weights on o and the state."""
    leaves = {n: t.detach().clone().requires_grad_() for n, t in given.items()}
    o, state = run(**leaves)
    torch.manual_seed(7)
    weights = [torch.randn(t.shape, dtype=torch.float64) for t in (o, state)]
    loss = sum((t.double() * w).sum() for t, w in zip((o, state), weights, strict=True))
    grads = torch.autograd.grad(loss, list(leaves.values()))
    return {"o": o.detach(), "state": state.detach()} | {
        f"grad {n}": t for n, t in zip(leaves, grads, strict=True)
    }


def worst(got, want):
    """Give the largest relative error over named tensors; an exact zero is compared absolutely."""
    assert got.keys() == want.keys()
    errors = {n: float((got[n].double() - w).norm() / (w.norm() + 1e-2)) for n, w in want.items()}
    name = max(errors, key=lambda n: math.inf if math.isnan(errors[n]) else errors[n])
    return errors[name], name


def inline(name):
    return INLINE[f"asi_arch.{name}.default"]


def cast(given, dtype):
    return {n: t.to(dtype) for n, t in given.items()}


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float64, 1e-9), (torch.float32, 2e-5)])
@pytest.mark.parametrize("name", NAMES)
def test_the_fast_path_equals_its_twin_at_odd_lengths(name, dtype, limit):
    for length, state in (*itertools.product((1, 2, 15, 17, 31, 33, 77), (False, True)), (LONG + 33, True)):
        given = make(name, length, state)
        error, where = worst(derive(inline(name), cast(given, dtype)), derive(naive.recurrence, given))
        assert error < limit, f"T={length}, state={state}: {where}"


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_inputs_are_computed_in_float32(name):
    given = cast(make(name, 33), torch.bfloat16)
    got = derive(inline(name), given)
    assert got["o"].dtype == torch.bfloat16
    assert got["state"].dtype == torch.float32
    want = derive(naive.recurrence, cast(given, torch.float64))
    error, where = worst(got, want)
    assert error < 1e-2, where
    assert worst({"state": got["state"]}, {"state": want["state"]})[0] < 2e-5


@pytest.mark.parametrize("name", NAMES)
def test_scale_multiplies_the_output_only(name):
    given = make(name, 9, key=16)
    o, state = inline(name)(**given, scale=1.0)
    usual, same = inline(name)(**given)
    torch.testing.assert_close(o, usual * 4.0)
    torch.testing.assert_close(state, same)


@pytest.mark.parametrize("name", DELTA)
def test_correlated_keys_written_at_full_strength_stay_exact(name):
    given = make(name, LONG + 44, key=32)
    given["k"] = F.normalize(given["k"] + 32**-0.5, dim=-1)
    cosines = given["k"][0, :, 0] @ given["k"][0, :, 0].T
    assert 0.4 < cosines.mean() < 0.6
    given["beta"] = torch.ones_like(given["beta"])
    error, where = worst(derive(inline(name), cast(given, torch.float32)), derive(naive.recurrence, given))
    assert error < 2e-5, where


@pytest.mark.parametrize("size", [1, 2, 16, 32, 64, 128])
def test_the_triangular_inverse_is_exact_at_every_size(size):
    torch.manual_seed(0)
    a = torch.full((3, size, size), 0.5).tril(-1) + 0.02 * torch.randn(3, size, size).tril(-1)
    want = torch.linalg.inv(torch.eye(size, dtype=torch.float64) + a.double())
    assert (unit_lower_inverse(a).double() - want).norm() / want.norm() < 2e-6


def test_the_triangular_inverse_has_the_gradient_of_an_inverse():
    torch.manual_seed(0)
    a = torch.randn(2, 32, 32, dtype=torch.float64).tril(-1) * 0.2
    weight = torch.randn(2, 32, 32, dtype=torch.float64)
    eye = torch.eye(32, dtype=torch.float64)
    mine, theirs = a.clone().requires_grad_(), a.clone().requires_grad_()
    (unit_lower_inverse(mine.tril(-1)) * weight).sum().backward()
    (torch.linalg.inv(eye + theirs.tril(-1)) * weight).sum().backward()
    torch.testing.assert_close(mine.grad, theirs.grad)


@pytest.mark.parametrize("name", CHANNEL)
def test_a_channel_that_forgets_everything_is_clamped_and_finite(name):
    given = make(name, 77)
    given["g"] = torch.full_like(given["g"], -6.0)
    given["g"][:, ::3] = -0.01
    given["k"], given["q"] = given["k"] * 30, given["q"] * 30
    if "beta" in given:
        given["beta"] = given["beta"] / 900
    got = derive(inline(name), cast(given, torch.float32))
    assert all(t.isfinite().all() for t in got.values())
    error, where = worst(got, derive(naive.recurrence, given))
    assert error < 2e-5, where
    assert (got["grad g"][:, 1::3] == 0).all()


@pytest.mark.parametrize("name", ["retention", "simple_gla", "gated_delta_rule"])
def test_a_head_that_forgets_everything_is_finite(name):
    given = make(name, 77)
    given["g"] = torch.full_like(given["g"], -120.0)
    got = derive(inline(name), cast(given, torch.float32))
    assert all(t.isfinite().all() for t in got.values())
    error, where = worst(got, derive(naive.recurrence, given))
    assert error < 2e-5, where


def take(given, start, stop, state):
    """Give the arguments for the tokens start..stop, with a state to go on from."""
    per_token = {n: t if t.dim() == 1 else t[:, start:stop] for n, t in given.items()}
    return per_token | {"initial_state": state}


@pytest.mark.parametrize("name", NAMES)
def test_whole_equals_pieces_equals_token_by_token(name):
    given = make(name, 77)
    o, state = inline(name)(**given)
    for cuts in ((0, 1, 6, 38, 76, 77), tuple(range(78))):
        carried, parts = given["initial_state"], []
        for start, stop in itertools.pairwise(cuts):
            part, carried = inline(name)(**take(given, start, stop, carried))
            parts.append(part)
        torch.testing.assert_close(torch.cat(parts, 1), o, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(carried, state, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("length", "cuts"), [(77, (1, 20, 40, 76)), (LONG + 20, (41, LONG + 1))])
@pytest.mark.parametrize("name", NAMES)
def test_later_tokens_do_not_move_earlier_outputs(name, length, cuts):
    given = cast(make(name, length), torch.float32)
    o, _ = inline(name)(**given)
    for cut in cuts:
        later = {n: t.clone() for n, t in given.items()}
        later["q"][:, cut:] = later["v"][:, cut:] = 1e6
        later["k"][:, cut:] = 8**-0.5 if name in DELTA else 1e6
        if name in DELTA:
            later["beta"][:, cut:] = 2.0
        if name in GATED and name != "retention":
            later["g"][:, cut:] = -4.0
        other, _ = inline(name)(**later)
        # per channel, later decays move the reference point of a chunk, and with it the rounding
        atol = 1e-5 if name in CHANNEL else 0.0
        torch.testing.assert_close(other[:, :cut], o[:, :cut], rtol=0.0, atol=atol)
        assert (other[:, cut:] - o[:, cut:]).abs().max() > 1.0


@pytest.mark.parametrize("name", NAMES)
def test_the_padding_of_the_last_chunk_changes_nothing(name):
    given = make(name, LONG + 64)
    whole, _ = inline(name)(**given)
    for length in (33, 47, LONG + 1, LONG + 47):
        o, state = inline(name)(**take(given, 0, length, given["initial_state"]))
        _, want = naive.recurrence(**take(given, 0, length, given["initial_state"]))
        torch.testing.assert_close(o, whole[:, :length], rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(state, want, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", NAMES)
def test_each_row_of_a_batch_is_independent(name):
    given = make(name, 40, batch=3)
    o, state = inline(name)(**given)
    row = {n: t if t.dim() == 1 else t[1:2] for n, t in given.items()}
    alone, last = inline(name)(**row)
    torch.testing.assert_close(alone, o[1:2], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(last, state[1:2], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_autocast_does_not_lower_the_precision(name):
    given = cast(make(name, 33), torch.float32)
    want = derive(inline(name), given)
    with torch.autocast("cpu", torch.bfloat16):
        got = derive(inline(name), given)
    assert torch.equal(got["o"], want["o"])
    assert torch.equal(got["state"], want["state"])


def test_a_zero_input_has_finite_gradients():
    given = {n: torch.zeros_like(t) for n, t in make("kda", 33).items()}
    assert all(t.isfinite().all() for t in derive(inline("kda"), given).values())


def test_linear_attention_is_the_masked_product():
    given = make("linear_attention", 50, state=False)
    o, state = recurrence(**given)
    scores = torch.einsum("bihk,bjhk->bhij", given["q"], given["k"]).tril() * 8**-0.5
    torch.testing.assert_close(o, torch.einsum("bhij,bjhv->bihv", scores, given["v"]))
    torch.testing.assert_close(state, torch.einsum("bjhk,bjhv->bhkv", given["k"], given["v"]))
