"""The language model around the mixers: all that is not the architecture under study, equal for all.

Tied embedding, pre-norm blocks of mixer and SwiGLU, final norm. The SwiGLU width is solved so that
every architecture has the seed's total of parameters: none wins by being larger.
Shapes: B rows, T tokens, D width, M hidden width of the SwiGLU.
"""

import hashlib
from collections.abc import Iterable, Sequence

import torch
from torch import nn
from torch.nn import functional as F

from asi_arch.engineer.train import Recipe, TaskShare
from asi_arch.errors import CandidateError

RECIPE = Recipe(
    d_model=64,
    num_heads=2,
    num_layers=2,
    vocab=256,
    length=64,
    tasks=(
        TaskShare(task="text", rows=8, evaluation_rows=256),
        TaskShare(task="recall", rows=8, evaluation_rows=64),
    ),
    betas=(0.9, 0.98),
    weight_decay=0.05,
    clip=1.0,
    warm_up=0.1,
    final_rate=0.02,
)

BLOCK_SQUARES = 14  # mixer and SwiGLU of one layer of the seed have 14 D^2 parameters together
TOLERANCE = 0.005  # of the seed's total
EPS = 1e-5


class RMSNorm(nn.Module):
    """Root-mean-square norm over the last dimension with a learned gain. Source: arXiv:1910.07467, eq. 4."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: [..., D] to the same shape."""
        return F.rms_norm(x, x.shape[-1:], self.weight, EPS)


class SwiGLU(nn.Module):
    """Gated two-layer network without biases. Source: arXiv:2002.05202, eq. 6."""

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.up = nn.Parameter(torch.empty(2, width, dim))  # gate, value
        self.down = nn.Parameter(torch.empty(width, dim))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: [B, T, D] to the same shape."""
        gate, value = F.linear(x, self.up.flatten(0, 1)).chunk(2, dim=-1)
        return (F.silu(gate) * value) @ self.down


class Block(nn.Module):
    """One layer: mixer and SwiGLU, each after a norm and added to the residual stream."""

    def __init__(self, mixer: nn.Module, dim: int, width: int) -> None:
        super().__init__()
        self.mixer_norm = RMSNorm(dim)
        self.mixer = mixer
        self.mlp_norm = RMSNorm(dim)
        self.mlp = SwiGLU(dim, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: [B, T, D] to the same shape."""
        y = self.mixer(self.mixer_norm(x))
        x = x + (y[0] if isinstance(y, tuple) else y)
        out: torch.Tensor = x + self.mlp(self.mlp_norm(x))
        return out


class LanguageModel(nn.Module):
    """Mixers in a language model; tokens [B, T] int64 to logits [B, T, vocab].

    mixers: one a layer, already initialised; each gives y or (y, state) for x, both [B, T, D]. They
    are owned from here on. width: of every SwiGLU. seed: draws every parameter that is not a mixer's.
    """

    def __init__(self, mixers: Sequence[nn.Module], d_model: int, vocab: int, width: int, seed: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab, d_model)
        blocks = [Block(mixer, d_model, width) for mixer in mixers]
        self.blocks = nn.ModuleList(blocks)
        self.norm = RMSNorm(d_model)
        _initialise(self.embedding.weight, [block.mlp for block in blocks], seed)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Give the logits of the next token at every position."""
        x = 2 * self.embedding(tokens)
        for block in self.blocks:
            x = block(x)
        return F.linear(self.norm(x), self.embedding.weight)


@torch.no_grad()
def _initialise(embedding: torch.Tensor, mlps: Sequence[SwiGLU], seed: int) -> None:
    """Draw each shared tensor from (seed, its name), so that all architectures start alike.

    Where widths differ, the narrower SwiGLU starts as the first units of the wider one, `down` scaled
    to its own width.
    """
    _draw(embedding, 0.5 * embedding.shape[1] ** -0.5, seed, "embedding")
    for index, mlp in enumerate(mlps):
        width, d_model = mlp.down.shape
        _draw(mlp.up[0], d_model**-0.5, seed, f"{index}.gate")
        _draw(mlp.up[1], d_model**-0.5, seed, f"{index}.value")
        _draw(mlp.down, (2 * len(mlps) * width) ** -0.5, seed, f"{index}.down")


def _draw(tensor: torch.Tensor, std: float, seed: int, name: str) -> None:
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
    tensor.copy_(torch.randn(tensor.shape, generator=generator) * std)


def seed_total(d_model: int, num_layers: int, vocab: int) -> int:
    """Give the parameters of the seed's model, which every architecture's must equal.

    The seed's own SwiGLU width follows from this too: mixer and SwiGLU fill BLOCK_SQUARES D^2 a layer.
    """
    per_block = BLOCK_SQUARES * d_model**2 + 2 * d_model
    return vocab * d_model + num_layers * per_block + d_model


def solve_width(mixer_parameters: Sequence[int], total: int, d_model: int, vocab: int) -> int:
    """Give the SwiGLU width at which a model has `total` parameters, within 0.5 %.

    mixer_parameters: of each layer's mixer, what layers share counted once. d_model: 24 or more;
    below, one hidden unit is more than 1 % of a deep model and no width comes close enough.

    Raises:
        CandidateError: the mixers are so large that the width would fall below `d_model`.
    """
    layers = len(mixer_parameters)
    fixed = vocab * d_model + (2 * layers + 1) * d_model + sum(mixer_parameters)
    unit = 3 * d_model * layers  # parameters of one hidden unit in every layer
    width = round((total - fixed) / unit)
    if width < d_model:
        most = (total - fixed + sum(mixer_parameters) - d_model * unit) // layers
        raise CandidateError(
            "budget",
            "parameters",
            f"mixers have {sum(mixer_parameters) / layers:,.0f} parameters a layer at d_model {d_model}; "
            f"more than {most:,} ({most / d_model**2:.1f} d_model^2) leave no room for the SwiGLU in the "
            f"seed's total of {total:,}; use fewer, narrower or low-rank projections",
        )
    reached = fixed + width * unit
    assert abs(reached - total) <= TOLERANCE * total, (
        "d_model is too small: one hidden unit is more than 1 % of the model"
    )
    return width


def build(mixers: Sequence[nn.Module], recipe: Recipe, seed: int) -> LanguageModel:
    """Give the language model around initialised mixers, with the seed's total of parameters.

    Raises:
        CandidateError: the mixers are too large; see `solve_width`.
    """
    total = seed_total(recipe.d_model, recipe.num_layers, recipe.vocab)
    width = solve_width(count_parameters(mixers), total, recipe.d_model, recipe.vocab)
    return LanguageModel(mixers, recipe.d_model, recipe.vocab, width, seed)


def count_parameters(modules: Iterable[nn.Module]) -> list[int]:
    """Give the parameters of each module; one that an earlier module has already is not counted again."""
    seen: set[int] = set()
    counts = []
    for module in modules:
        new = {id(p): p.numel() for p in module.parameters() if id(p) not in seen}
        seen |= new.keys()
        counts.append(sum(new.values()))
    return counts
