"""Time our recurrences beside causal softmax attention, forward and backward, in one process.

    python benchmarks/ops.py [--lengths 256 1024] [--rounds 9]

Every round runs every row once, so a change of the machine's load meets all rows alike. A row's ratio is
its median over the rounds divided by attention's; the spread is the interquartile range of the ratio within
rounds.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional as F

from asi_arch import ops
from asi_arch.ops.operators import INLINE

BATCH, HEADS, SIZE = 8, 4, 32  # B, H, K = V
ATTENTION = "causal attention (SDPA)"


def step(run: Callable[..., Tensor], tensors: list[Tensor]) -> Callable[[], object]:
    """Give a function that runs forward and backward once."""
    weight = torch.randn_like(run(*tensors))
    return lambda: torch.autograd.grad(run(*tensors), tensors, weight)


def inputs(length: int) -> dict[str, Tensor]:
    torch.manual_seed(0)
    token = (BATCH, length, HEADS)
    q, k, v = (torch.randn(*token, SIZE) for _ in range(3))
    decay = {"fixed": (HEADS,), "head": token, "channel": (*token, SIZE)}
    given = {name: -0.2 * torch.rand(shape) for name, shape in decay.items()}
    given |= {"q": q, "k": F.normalize(k, dim=-1), "v": v, "beta": torch.rand(token)}
    return {name: t.requires_grad_() for name, t in given.items()}


def peer() -> Callable[..., Tensor] | None:
    """Give transformers' gated delta rule in plain torch, if transformers is installed."""
    try:
        from transformers.models.qwen3_next import modeling_qwen3_next
    except ImportError:
        return None
    chunked = modeling_qwen3_next.torch_chunk_gated_delta_rule
    return lambda q, k, v, g, beta: chunked(q, k, v, g, beta)[0]


def rows(length: int) -> dict[str, Callable[[], object]]:
    given = inputs(length)

    def pick(names: str) -> list[Tensor]:
        return [given[name] for name in names.split()]

    by_head = [given[n].detach().transpose(1, 2).contiguous().requires_grad_() for n in "qkv"]
    arguments = {
        "linear_attention": "q k v",
        "retention": "q k v fixed",
        "simple_gla": "q k v head",
        "gla": "q k v channel",
        "delta_rule": "q k v beta",
        "gated_delta_rule": "q k v head beta",
        "kda": "q k v channel beta",
    }
    attention = partial(F.scaled_dot_product_attention, is_causal=True)
    found = {ATTENTION: step(attention, by_head)}
    for name, names in arguments.items():
        run = INLINE[f"asi_arch.{name}.default"]
        found[name] = step(lambda *t, run=run: run(*t)[0], pick(names))
    found["gated_delta_rule (operator)"] = step(
        lambda *t: ops.gated_delta_rule(*t)[0], pick("q k v head beta")
    )
    other = peer()
    if other is not None:
        found["gated_delta_rule (transformers)"] = step(other, pick("q k v head beta"))
    return found


def measure(steps: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Give seconds of CPU per row and round, after one round of warm-up."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for i in range(rounds + 1):
        for name, run in steps.items():
            start = time.process_time()
            run()
            if i:
                seconds[name].append(time.process_time() - start)
    return seconds


def table(length: int, seconds: dict[str, list[float]]) -> Table:
    shown = Table(title=f"T={length}, B={BATCH}, H={HEADS}, K=V={SIZE}, float32, forward and backward")
    shown.add_column("row", no_wrap=True)
    for column in ("median ms", "ratio", "IQR of the ratio"):
        shown.add_column(column, justify="right")
    base = seconds[ATTENTION]
    for name, own in seconds.items():
        low, _, high = statistics.quantiles((a / b for a, b in zip(own, base, strict=True)), n=4)
        ratio = statistics.median(own) / statistics.median(base)
        shown.add_row(name, f"{1e3 * statistics.median(own):.1f}", f"{ratio:.2f}", f"{low:.2f} to {high:.2f}")
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lengths", type=int, nargs="+", default=[256, 1024], help="T, in tokens")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    torch.set_num_threads(1)
    console = Console()
    for length in options.lengths:
        console.print(table(length, measure(rows(length), options.rounds)))
    if peer() is None:
        console.print("transformers is not installed: its gated delta rule is absent from the tables")
    console.print(f"torch {torch.__version__}, 1 thread")


if __name__ == "__main__":
    main()
