"""The grammar of linear-attention mixers: designs, moves, programs, and reading what others wrote."""

import ast
import random
import subprocess
import sys
import types
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from itertools import islice

import pytest
import torch

from asi_arch.space import load_space, resolve
from asi_arch.spaces.linear_attention.design import (
    TIME_SCALES,
    Decay,
    Design,
    Fusion,
    Keys,
    Memory,
    Output,
    Values,
    from_json,
    to_json,
)
from asi_arch.spaces.linear_attention.limits import MAX_WORK, SIZES, fault, parameters, state_size, work
from asi_arch.spaces.linear_attention.moves import MOVES
from asi_arch.spaces.linear_attention.recognise import recognise
from asi_arch.spaces.linear_attention.render import program

SPACE = load_space("linear_attention")
GRAMMAR = resolve(SPACE.grammar)()
LENGTH = 21
CUTS = ([1] * LENGTH, [7, 1, 13], [16, 5])

ADDITIVE = Memory(update="additive", write="full")
BASELINES = {
    "delta_net": Design(),
    "gated_delta_net": Design(memories=(Memory(decay=Decay(scale="wide")),), output=Output(gate="silu")),
    "kda": Design(
        memories=(Memory(decay=Decay(kind="channel", scale="wide")),), output=Output(gate="sigmoid", rank=16)
    ),
    "mamba2": Design(
        keys=Keys(norm="none", shared=True),
        values=Values(residual="skip"),
        memories=(replace(ADDITIVE, decay=Decay(scale="wide"), write="step"),),
        output=Output(norm="all", gate="silu"),
    ),
    "gla": Design(
        convolved="",
        keys=Keys(feature="identity", norm="none"),
        values=Values(activation="none"),
        memories=(replace(ADDITIVE, decay=Decay(kind="channel", form="logsigmoid")),),
        output=Output(gate="silu"),
    ),
    "retnet": Design(
        convolved="",
        keys=Keys(feature="identity", norm="none", rotary=True),
        values=Values(activation="none"),
        memories=(replace(ADDITIVE, decay=Decay(kind="fixed")),),
        output=Output(gate="silu"),
    ),
    "linear_attention": Design(
        convolved="",
        keys=Keys(feature="elu1", norm="none"),
        values=Values(activation="none"),
        memories=(replace(ADDITIVE, normalised=True),),
        output=Output(norm="none"),
    ),
}


def walk(seed: int) -> Iterator[Design]:
    """Endless valid designs: random moves from the baselines and from what was reached before."""
    rng = random.Random(seed)
    pool = list(BASELINES.values())
    while True:
        design = rng.choice(pool)
        for _ in range(rng.randint(1, 6)):
            for move in rng.sample(MOVES, len(MOVES)):
                moved = move.change(design, rng.choice(pool))
                if moved is not None:
                    design = moved
                    break
        if design not in pool:
            pool.append(design)
            yield design


@cache
def some(count: int, seed: int = 1) -> tuple[Design, ...]:
    return tuple(islice(walk(seed), count))


def mixer_of(source: str) -> type[torch.nn.Module]:
    module = types.ModuleType("candidate")
    exec(compile(source, "<candidate>", "exec"), module.__dict__)
    return module.Mixer


def obeys_the_contract(design: Design, width: int, heads: int) -> None:
    torch.manual_seed(0)
    mixer = mixer_of(program(design))(width, heads).double()
    assert sum(p.numel() for p in mixer.parameters()) == parameters(design, width, heads)
    with torch.no_grad():
        for parameter in mixer.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    x = torch.randn(2, LENGTH, width, dtype=torch.float64)
    y, state = mixer(x)
    assert y.shape == x.shape
    assert y.isfinite().all()
    leaves = torch.utils._pytree.tree_leaves(state)
    assert sum(leaf.numel() for leaf in leaves) == 2 * state_size(design, width, heads)
    for cuts in CUTS:
        pieces, after = [], None
        for piece in x.split(cuts, dim=1):
            out, after = mixer(piece) if after is None else mixer(piece, after)
            pieces.append(out)
        torch.testing.assert_close(torch.cat(pieces, 1), y, rtol=1e-8, atol=1e-9)
    later = torch.cat([x[:, :9], torch.randn_like(x[:, 9:])], 1)
    torch.testing.assert_close(mixer(later)[0][:, :9], y[:, :9], rtol=0, atol=1e-12)
    (y * torch.randn_like(y)).sum().backward()
    for name, parameter in mixer.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_a_program_is_causal_continues_exactly_and_trains_every_parameter():
    torch.set_num_threads(1)
    for i, design in enumerate(some(300)[::9]):
        obeys_the_contract(design, *SIZES[i % 2])


@pytest.mark.slow
def test_many_programs_obey_the_contract_at_both_sizes():
    torch.set_num_threads(1)
    for design in some(150, seed=2):
        for width, heads in SIZES:
            obeys_the_contract(design, width, heads)


def test_designs_that_differ_give_programs_that_differ():
    designs = [*BASELINES.values(), *some(300)]
    trees = {ast.dump(ast.parse(program(design))) for design in designs}
    assert len(trees) == len(designs)


def test_a_program_carries_its_design_and_is_read_as_it_without_a_note():
    for design in [*BASELINES.values(), *some(300)[::15]]:
        source = GRAMMAR.render(design, "Name", 'Because of a "quote", a back\\slash and """ three.')
        assert GRAMMAR.read(source) == (design, "")


def test_a_program_without_its_line_is_recognised_all_the_same():
    for design in some(300):
        assert recognise(program(design)) == (design, "")


@pytest.mark.parametrize("stem", BASELINES)
def test_a_baseline_is_recognised_by_what_it_does(stem):
    design, note = GRAMMAR.read(SPACE.baseline_source(stem))
    assert design == BASELINES[stem]
    assert fault(design) is None
    assert "read from its source" in note
    assert "Not understood" not in note


def test_an_edited_program_is_read_anew():
    source = GRAMMAR.render(Design(), "Name", "")
    edited = source.replace("kernel_size=4", "kernel_size=6").replace(".sigmoid()", ".sigmoid() * 2")
    design, note = GRAMMAR.read(edited)
    assert design == Design(kernel=6, memories=(Memory(write="double"),))
    assert "'Design:' is not of this program" in note
    commented = source.replace("    def forward", "    # mine\n    def forward")
    assert GRAMMAR.read(commented) == (Design(), "")


@pytest.mark.parametrize(
    "line", ["{", '{"depth": 3}', '{"kernel": 5}', '{"memories": [{}, {}]}', '{"local": true}']
)
def test_a_broken_design_line_is_no_obstacle(line):
    source = GRAMMAR.render(Design(kernel=8), "Name", "").replace('{"kernel": 8}', line)
    design, note = GRAMMAR.read(source)
    assert design == Design(kernel=8)
    assert "'Design:' is not of this program" in note


ODD = '''
"""A person's mixer, with parts that no paper of the grammar has."""
import torch
from torch import nn
from asi_arch.ops import kda, l2norm, sliding_window_attention

class Helper(nn.Module):
    pass

class Mixer(nn.Module):
    def __init__(self, d_model, num_heads, layer_idx=0):
        super().__init__()
        self.h = num_heads
        self.q_proj, self.k_proj = nn.Linear(d_model, d_model), nn.Linear(d_model, d_model)
        self.v_proj = nn.Linear(d_model, d_model)
        self.f_proj = nn.Sequential(nn.Linear(d_model, 8), nn.Linear(8, d_model))
        self.b_proj = nn.Linear(d_model, num_heads)
        self.spectrum = nn.Bilinear(d_model, d_model, d_model)
        self.o_proj = nn.Linear(d_model, d_model)

    def forward(self, hidden, state=None):
        q, k, v = [f(hidden).unflatten(-1, (self.h, -1)) for f in (self.q_proj, self.k_proj, self.v_proj)]
        g = -5.0 * torch.sigmoid(self.f_proj(hidden)).unflatten(-1, (self.h, -1))
        memory, window = state or (None, None)
        beta = 2.0 * self.b_proj(hidden).sigmoid()
        o, memory = kda(l2norm(q), l2norm(k), v, g, beta=beta, initial_state=memory)
        w, window = sliding_window_attention(q, k, v, window=12, state=window)
        return self.o_proj(self.spectrum((o + w).flatten(-2), hidden)), (memory, window)
'''


def test_a_persons_file_is_read_as_far_as_it_is_understood():
    design, note = GRAMMAR.read(ODD)
    assert design.memories == (Memory(decay=Decay(kind="channel", form="bounded", rank=8), write="double"),)
    assert design.keys == Keys(feature="identity", norm="l2")
    assert (design.convolved, design.window, design.output.gate) == ("", 8, "none")
    assert "Not understood: layers spectrum (Bilinear)" in note
    assert fault(design) is None


@pytest.mark.parametrize("source", ["", "x = 1", "def Mixer(: pass", "class Other: pass", "\0"])
def test_what_is_no_mixer_is_read_as_the_seed_and_said_so(source):
    design, note = GRAMMAR.read(source)
    assert design == Design()
    assert "the delta rule stands in" in note


def test_a_file_beyond_the_limits_is_read_as_the_nearest_design_within():
    wide = Design(
        values=Values(twice=True), window=32, memories=(Memory(), ADDITIVE), output=Output(gate="silu")
    )
    assert fault(wide) is not None
    design, note = GRAMMAR.read(program(wide))
    assert fault(design) is None
    assert design.values.twice
    assert "Parts were dropped to fit the grammar's limits" in note


def test_every_move_applies_somewhere_and_gives_a_valid_design():
    pool = [*BASELINES.values(), *some(300)]
    reference = BASELINES["mamba2"]
    for move in MOVES:
        moved = list(islice(((d, m) for d in pool if (m := move.change(d, reference)) is not None), 10))
        assert moved, f"{move.name} never applies"
        for before, after in moved:
            assert after != before
            assert fault(after) is None
            assert from_json(to_json(after)) == after


def test_a_move_that_takes_needs_a_reference():
    taking = [move for move in MOVES if move.takes]
    assert len(taking) >= 5
    assert all(move.change(Design(), None) is None for move in taking)
    take = next(move for move in taking if move.name == "take_decay_from_reference")
    assert take.change(Design(), BASELINES["kda"]).memories[0].decay == BASELINES["kda"].memories[0].decay


def test_moves_are_named_once_and_rest_on_papers_of_the_cognition_base():
    papers = {path.stem for path in (SPACE.folder / "cognition").glob("*.toml")}
    assert len(MOVES) >= 30
    assert len({move.name for move in MOVES}) == len(MOVES)
    for move in MOVES:
        assert move.name.replace("_", "").isalpha(), move.name
        assert move.name == move.name.lower()
        assert move.motivation.endswith("."), move.name
        assert move.cites, move.name
        assert set(move.cites) <= papers, (move.name, set(move.cites) - papers)


def decay_starts() -> Sequence[Decay]:
    gated = [
        (k, f)
        for k in ("scalar", "channel")
        for f in ("softplus", "logsigmoid", "bounded", "mild", "recurrent")
    ]
    kinds = [("fixed", "softplus"), ("learned", "softplus"), *gated]
    return [Decay(kind=k, form=f, scale=s) for k, f in kinds for s in TIME_SCALES]


@pytest.mark.parametrize("decay", decay_starts(), ids=lambda d: f"{d.kind}-{d.form}-{d.scale}")
def test_a_decay_starts_at_its_time_scales(decay):
    given = {}

    def record(q, k, v, g, beta, **_):
        given["g"] = g
        return v, None

    mixer = mixer_of(program(Design(memories=(Memory(decay=decay),), output=Output(norm="none"))))
    mixer.forward.__globals__.update(kda=record, gated_delta_rule=record)
    mixer(64, 4)(torch.zeros(1, 1, 64))
    g = given["g"][0, 0].detach()  # [H], or [H, K]
    scales = -1 / (g[0] if decay.kind == "channel" else g)
    assert (float(scales[0]), float(scales[-1])) == pytest.approx(TIME_SCALES[decay.scale], rel=2e-3)


def test_steps_of_the_delta_rule_are_products_of_single_steps():
    """Two steps a token give what two tokens give under the one-step rule with the same keys."""
    seen = {}

    def record(q, k, v, beta, **_):
        seen.update(q=q, k=k, v=v, beta=beta)
        return v, None

    mixer = mixer_of(program(Design(memories=(Memory(steps=2),), output=Output(norm="none"))))
    mixer.forward.__globals__["delta_rule"] = record
    mixer(64, 4)(torch.randn(1, 3, 64))
    assert seen["q"].shape == seen["k"].shape == (1, 6, 4, 16)
    assert torch.equal(seen["q"][:, 0], seen["q"][:, 1])
    assert not torch.equal(seen["k"][:, 0], seen["k"][:, 1])
    assert seen["beta"].shape == (1, 6, 4)


def test_programs_are_formatted_import_only_what_they_use_and_say_what_they_are():
    rich = Design(
        convolved="kv",
        memories=(
            Memory(steps=2, decay=Decay(kind="channel")),
            replace(ADDITIVE, decay=Decay(kind="learned")),
        ),
        local=3,
        identity=True,
        fusion=Fusion(kind="staged", floor=2),
        output=Output(gate="double"),
    )
    assert fault(rich) is None
    for design in (Design(), rich, *some(300)[::60]):
        source = GRAMMAR.render(design, "Name", "Because the parent is weak.")
        assert source == GRAMMAR.render(design, "Name", "Because the parent is weak.")
        for arguments in (
            ["format", "--isolated", "--line-length", "110", "--check"],
            ["check", "--select", "F"],
        ):
            command = [sys.executable, "-m", "ruff", *arguments, "-"]
            done = subprocess.run(command, input=source, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
        doc = ast.get_docstring(ast.parse(source))
        assert doc.startswith("Name.\n")
        assert "S_t = " in doc
        assert "Because the parent is weak." in doc


def test_designs_over_the_limits_are_refused_with_the_figure():
    assert "10 D^2" in fault(
        Design(memories=(Memory(steps=3),), values=Values(twice=True), output=Output(gate="silu"))
    )
    assert "96 D" in fault(Design(memories=(Memory(), ADDITIVE), values=Values(twice=True)))
    slow = Design(memories=(Memory(steps=3, decay=Decay(kind="channel")),))
    assert work(slow) > MAX_WORK
    assert "the seed's work" in fault(slow)
    assert "unit length" in fault(Design(keys=Keys(norm="none")))


@pytest.mark.parametrize(
    "text", ["[]", "3", '{"keys": 1}', '{"kernel": "4"}', '{"memories": {}}', '{"shifted": "z"}']
)
def test_text_that_is_no_design_is_refused(text):
    with pytest.raises(ValueError, match=r"."):
        from_json(text)


def test_a_title_is_short_and_tells_designs_apart():
    titles = [GRAMMAR.title(design) for design in some(300)]
    assert all(title.isalnum() and len(title) <= 60 for title in titles)
    assert len(set(titles)) > 200
    assert GRAMMAR.title(Design()) == "Delta"
    assert GRAMMAR.title(BASELINES["kda"]) == "KimiDeltaWideNarrowSigmoidGate"
