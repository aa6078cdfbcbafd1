import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from asi_arch.errors import CandidateError
from asi_arch.spaces.linear_attention.model import (
    RECIPE,
    LanguageModel,
    RMSNorm,
    SwiGLU,
    build,
    count_parameters,
    seed_total,
    solve_width,
)
from asi_arch.spaces.linear_attention.space import SPACE


class Scaled(nn.Module):
    """A mixer with as many parameters as wanted; it only scales its input."""

    def __init__(self, size=1, as_tuple=False):
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(0.5, 1.5, size))
        self.as_tuple = as_tuple

    def forward(self, x):
        y = x * self.weight.mean()
        return (y, None) if self.as_tuple else y


def total(model):
    return sum(p.numel() for p in model.parameters())


def test_what_authors_are_told_of_the_recipe_is_the_recipe():
    assert SPACE.warm_up == RECIPE.warm_up == 0.1  # "a tenth of the steps"
    told = " ".join(SPACE.recipe.split())
    first, second = RECIPE.betas
    assert f"betas {first} and {second}, weight decay {RECIPE.weight_decay} on matrices" in told
    assert f"gradients clipped at {RECIPE.clip:g})" in told
    assert (
        f"learning rate up to {SPACE.stages['explore'].learning_rate} at explore in a tenth of the steps"
        in told
    )
    assert f"D = {RECIPE.d_model}, H = {RECIPE.num_heads} " in told
    assert f"{RECIPE.num_layers} layers, T = {RECIPE.length} tokens, {RECIPE.vocab} token values" in told
    assert all(f"{share.rows} " in told for share in RECIPE.tasks)


def test_the_seed_has_the_size_at_which_the_tasks_were_calibrated():
    assert seed_total(64, 2, 256) == 131_392


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([32, 48, 64]), st.integers(1, 4), st.floats(0, 10.5), st.floats(0, 10.5))
def test_every_model_has_the_seeds_parameters_within_half_a_percent(d_model, pairs, first, second):
    sizes = [1 + int(squares * d_model**2) for squares in (first, second)] * pairs
    wanted = seed_total(d_model, len(sizes), 256)
    width = solve_width(sizes, wanted, d_model, 256)
    model = LanguageModel([Scaled(size) for size in sizes], d_model, 256, width, seed=0)
    assert abs(total(model) - wanted) <= 0.005 * wanted
    assert width >= d_model


def test_a_mixer_too_large_for_the_budget_is_refused_with_size_limit_and_cure():
    model = build([Scaled(11 * 64**2)] * 1 + [Scaled(11 * 64**2)], RECIPE, seed=0)
    assert model.blocks[0].mlp.down.shape == (64, 64)
    with pytest.raises(
        CandidateError, match=r"46,080 .* more than 45,056 \(11.0 d_model\^2\) .* low-rank"
    ) as error:
        build([Scaled(45 * 1024) for _ in range(2)], RECIPE, seed=0)
    assert (error.value.phase, error.value.kind) == ("budget", "parameters")


def test_the_stated_limit_is_the_true_one():
    wanted = seed_total(64, 2, 256)
    assert solve_width([45_056] * 2, wanted, 64, 256) == 64
    with pytest.raises(CandidateError):
        solve_width([45_056 + 192] * 2, wanted, 64, 256)


def test_parameters_that_layers_share_are_counted_once():
    shared = Scaled(4096)
    other = Scaled(10)
    other.inner = shared
    assert count_parameters([shared, shared, other]) == [4096, 0, 10]
    model = build([shared, shared], RECIPE, seed=0)
    assert abs(total(model) - 131_392) <= 0.005 * 131_392


def test_all_that_is_not_the_mixer_starts_alike_whatever_the_mixer_is():
    small = build([Scaled(10), Scaled(10)], RECIPE, seed=3)
    large = build([Scaled(20_000), Scaled(20_000)], RECIPE, seed=3)
    assert torch.equal(small.embedding.weight, large.embedding.weight)
    for a, b in zip(small.blocks, large.blocks, strict=True):
        width = len(b.mlp.down)
        assert width < len(a.mlp.down)
        assert torch.equal(a.mlp.up[:, :width], b.mlp.up)
        scale = math.sqrt(width / len(a.mlp.down))
        torch.testing.assert_close(a.mlp.down[:width], b.mlp.down * scale)


def test_no_two_tensors_and_no_two_seeds_start_alike():
    a, b = (build([Scaled(), Scaled()], RECIPE, seed=seed) for seed in (0, 1))
    assert not torch.equal(a.embedding.weight, b.embedding.weight)
    assert not torch.equal(a.blocks[0].mlp.up, a.blocks[1].mlp.up)
    assert not torch.equal(a.blocks[0].mlp.up[0], a.blocks[0].mlp.up[1])


def test_a_mixer_may_give_its_state_beside_its_output():
    tokens = torch.arange(12).view(2, 6)
    plain = build([Scaled(), Scaled()], RECIPE, seed=0)
    pair = build([Scaled(as_tuple=True), Scaled(as_tuple=True)], RECIPE, seed=0)
    assert torch.equal(plain(tokens), pair(tokens))


def test_all_but_the_mixer_works_on_each_token_alone():
    tokens = torch.randint(256, (2, 9), generator=torch.Generator().manual_seed(0))
    model = build([Scaled(), Scaled()], RECIPE, seed=0)
    alone = torch.cat([model(tokens[:, t : t + 1]) for t in range(9)], dim=1)
    torch.testing.assert_close(model(tokens), alone)


def test_a_new_model_is_nearly_ignorant_but_no_worse():
    tokens = torch.randint(256, (8, 64), generator=torch.Generator().manual_seed(0))
    logits = build([Scaled(), Scaled()], RECIPE, seed=0)(tokens)
    loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
    assert math.log(256) - 0.1 < loss < math.log(256) + 0.4


def test_input_and_output_embedding_are_one_tensor():
    model = build([Scaled(), Scaled()], RECIPE, seed=0)
    assert [p.shape for p in model.parameters()].count(torch.Size([256, 64])) == 1
    model(torch.zeros(1, 3, dtype=torch.int64))[..., 5].sum().backward()
    gradient = model.embedding.weight.grad
    assert gradient[0].abs().sum() > 0  # as input
    assert gradient[5].abs().sum() > 0  # as output


def test_norm_and_swiglu_agree_with_their_formulas():
    x = torch.randn(3, 5, 16, dtype=torch.float64)
    norm = RMSNorm(16).double()
    torch.nn.init.normal_(norm.weight)
    torch.testing.assert_close(norm(x), x / (x.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt() * norm.weight)
    mlp = SwiGLU(16, 7).double()
    for p in mlp.parameters():
        torch.nn.init.normal_(p)
    gate, value = (torch.einsum("btd,md->btm", x, up) for up in mlp.up)
    wanted = torch.einsum("btm,md->btd", gate * gate.sigmoid() * value, mlp.down)
    torch.testing.assert_close(mlp(x), wanted)
