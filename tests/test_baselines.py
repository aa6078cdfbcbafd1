"""Every baseline of the linear-attention space obeys the contract that candidates are held to."""

import importlib.util
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn
from torch.utils import _pytree as pytree

from asi_arch.space import load_space

SPACE = load_space("linear_attention")
LINEAR = [stem for stem in SPACE.baselines() if stem not in SPACE.references]
D = 64
ROWS = {0: torch.export.Dim("B", min=1, max=1024)}
T = 70  # more than one chunk of the ops, and no multiple of one

every = pytest.mark.parametrize("stem", SPACE.baselines())
each_linear = pytest.mark.parametrize("stem", LINEAR)
heads = pytest.mark.parametrize("num_heads", [4, 2])


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"candidate_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def mixer(stem: str, num_heads: int, dtype: torch.dtype = torch.float64) -> nn.Module:
    torch.manual_seed(0)
    made: nn.Module = load(SPACE.folder / "baselines" / f"{stem}.py").Mixer(D, num_heads, 0)
    return made.to(dtype)


def frozen(stem: str) -> nn.Module:
    return mixer(stem, 4, torch.float32).eval().requires_grad_(False)


def inputs(batch: int = 2, dtype: torch.dtype = torch.float64, seed: int = 1) -> torch.Tensor:
    return torch.randn(batch, T, D, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def in_pieces(module: nn.Module, x: torch.Tensor, lengths: list[int]) -> tuple[torch.Tensor, object]:
    state, outputs = None, []
    for piece in x.split(lengths, dim=1):
        y, state = module(piece, state)
        outputs.append(y)
    return torch.cat(outputs, dim=1), state


def sizes(state: object) -> list[torch.Size]:
    return [leaf.shape for leaf in pytree.tree_leaves(state)]


def test_the_seed_comes_first_and_the_reference_last() -> None:
    assert SPACE.baselines()[0] == "delta_net"
    assert SPACE.baselines()[-1] == "softmax_attention"
    assert len(SPACE.baselines()) == 8


def test_loading_the_space_does_not_import_torch() -> None:
    code = (
        "import sys; from asi_arch.space import load_space; load_space('linear_attention');"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_example_in_the_contract_is_a_mixer_that_continues() -> None:
    example = SPACE.contract.split("```python\n")[1].split("```")[0]
    names: dict[str, Callable[..., nn.Module]] = {}
    exec(example, names)
    torch.manual_seed(0)
    module, x = names["Mixer"](D, 4).double(), inputs()
    whole, _ = module(x)
    assert torch.allclose(in_pieces(module, x, [1] * T)[0], whole, rtol=0, atol=1e-10)


@every
@heads
def test_a_mixer_keeps_shape_and_dtype_and_starts_with_outputs_of_a_sane_size(
    stem: str, num_heads: int
) -> None:
    y, state = mixer(stem, num_heads, torch.float32)(inputs(3, torch.float32))
    assert y.shape == (3, T, D)
    assert y.dtype == torch.float32
    assert 0.02 < float(y.detach().std()) < 2
    assert all(shape[0] == 3 for shape in sizes(state)), "states are batch first"


@every
@heads
@pytest.mark.parametrize("lengths", [[1] * T, [1, 33, 36], [64, 6], [3, 2, 64, 1]])
def test_whole_pieces_and_tokens_give_the_same_output(stem: str, num_heads: int, lengths: list[int]) -> None:
    module, x = mixer(stem, num_heads), inputs()
    with torch.no_grad():
        whole, last = module(x)
        pieces, end = in_pieces(module, x, lengths)
        assert torch.allclose(pieces, whole, rtol=0, atol=1e-10)
        for a, b in zip(pytree.tree_leaves(last), pytree.tree_leaves(end), strict=True):
            assert torch.allclose(a, b, rtol=0, atol=1e-10)


@every
def test_pieces_agree_in_single_precision_too(stem: str) -> None:
    module, x = mixer(stem, 4, torch.float32), inputs(dtype=torch.float32)
    with torch.no_grad():
        whole, _ = module(x)
        assert torch.allclose(in_pieces(module, x, [1, 33, 36])[0], whole, rtol=0, atol=1e-4)


@each_linear
@heads
def test_the_state_has_one_size_for_every_length(stem: str, num_heads: int) -> None:
    module, x = mixer(stem, num_heads), inputs()
    with torch.no_grad():
        assert sizes(module(x[:, :1])[1]) == sizes(module(x)[1]) == sizes(in_pieces(module, x, [64, 6])[1])


def test_the_state_of_softmax_attention_grows_with_every_token() -> None:
    module, x = mixer("softmax_attention", 4), inputs()
    with torch.no_grad():
        short, long = (sum(map(torch.Size.numel, sizes(module(x[:, :t])[1]))) for t in (35, 70))
    assert long == pytest.approx(2 * short, rel=0.01)


@every
@heads
def test_replacing_the_future_does_not_move_the_past(stem: str, num_heads: int) -> None:
    module, x, other = mixer(stem, num_heads), inputs(), inputs(seed=2)
    with torch.no_grad():
        y, _ = module(x)
        for cut in (1, 32, 33, 69):
            changed, _ = module(torch.cat([x[:, :cut], other[:, cut:]], dim=1))
            assert torch.allclose(changed[:, :cut], y[:, :cut], rtol=0, atol=1e-10)
            assert not torch.allclose(changed[:, cut:], y[:, cut:], rtol=0, atol=1e-3)


@every
def test_rows_of_a_batch_do_not_see_one_another(stem: str) -> None:
    module, x = mixer(stem, 4), inputs(4)
    with torch.no_grad():
        assert torch.allclose(module(x)[0][1:2], module(x[1:2])[0], rtol=0, atol=1e-10)


@every
@heads
def test_every_parameter_gets_a_finite_gradient(stem: str, num_heads: int) -> None:
    module, x = mixer(stem, num_heads, torch.float32), inputs(dtype=torch.float32)
    y, _ = module(x)
    (y * inputs(dtype=torch.float32, seed=3)).sum().backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


@every
@heads
def test_a_mixer_stays_within_ten_squares_of_the_width(stem: str, num_heads: int) -> None:
    count = sum(p.numel() for p in mixer(stem, num_heads).parameters())
    assert 3.5 * D**2 < count < 10 * D**2
    if stem == SPACE.seed:
        assert count < 4.3 * D**2


@each_linear
def test_memories_have_one_size_but_for_the_normalizer(stem: str) -> None:
    _, state = mixer(stem, 2)(inputs())
    memory = pytree.tree_leaves(state)[-1]
    assert memory.shape == (2, 2, 32, 33 if stem == "linear_attention" else 32)


@every
def test_the_same_seed_builds_the_same_mixer(stem: str) -> None:
    first, second = mixer(stem, 4).state_dict(), mixer(stem, 4).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


@every
@pytest.mark.parametrize("length", [1, 33, 64])
def test_a_mixer_exports_with_a_dynamic_batch(stem: str, length: int) -> None:
    module, x = frozen(stem), inputs(3, torch.float32)[:, :length]
    program = torch.export.export(module, (x,), strict=False, dynamic_shapes={"x": ROWS})
    assert torch.equal(program.module()(x[:1])[0], module(x[:1])[0])


@every
def test_a_piece_after_a_state_exports_with_a_dynamic_batch(stem: str) -> None:
    module, x = frozen(stem), inputs(3, torch.float32)
    first, second = x.split([33, T - 33], dim=1)
    state = module(first)[1]
    shapes = {"x": ROWS, "state": pytree.tree_map(lambda leaf: ROWS, state)}
    program = torch.export.export(module, (second, state), strict=False, dynamic_shapes=shapes)
    one_row = pytree.tree_map(lambda leaf: leaf[:1], state)
    assert torch.equal(program.module()(second[:1], one_row)[0], module(second[:1], one_row)[0])
