"""Inside the wall: load all that a candidate may make torch load, before the first fork.

After the fork nothing can be opened, so a module that torch imports when it is first needed would be
missing then. What is rehearsed here are sound and faulty programs of every kind that we know.
"""

import gc
import importlib
import json
import linecache
import pkgutil
import sys
import warnings
from collections.abc import Callable, Iterator

import torch

PACKAGES = ("torch.nn", "torch.distributions", "asi_arch.ops")
MODULES = (
    "einops.layers.torch torch.fft torch.func torch.linalg torch.special torch.masked torch.nested".split()
)
HEAD = """
import math
from typing import *
import einops
import torch
import torch.nn as nn
import torch.nn.functional as F
from einops import einsum, rearrange, reduce, repeat
from einops.layers.torch import Rearrange
from torch.nn.utils.parametrizations import orthogonal, weight_norm
from asi_arch import ops
"""
SOUND = """
class Mixer(nn.Module):
    def __init__(self, d_model, num_heads, layer_idx=0):
        super().__init__()
        self.h = num_heads
        self.qkv = nn.Linear(d_model, 3 * d_model, bias=False)
        self.bound = nn.Linear(d_model, d_model)
        self.conv = nn.Conv1d(d_model, d_model, 3, padding=2, groups=d_model)
        self.norms = nn.ModuleList([nn.LayerNorm(d_model), nn.RMSNorm(d_model)])
        self.group, self.drop = nn.GroupNorm(2, d_model), nn.Dropout(0.1)
        self.table = nn.Embedding(8, d_model)
        self.free = nn.ParameterDict({"a": nn.Parameter(torch.ones(d_model))})
        self.turn = Rearrange("b t (h d) -> b t h d", h=num_heads)
        self.register_buffer("mask", torch.ones(8, 8).tril(), persistent=False)
        for name in "orthogonal xavier_uniform kaiming_normal trunc_normal zeros ones normal".split():
            getattr(nn.init, name + "_")(self.qkv.weight)

    def forward(self, x, state=None):
        b, t, d = x.shape
        q, k, v = (self.turn(part) for part in self.qkv(self.norms[0](x)).chunk(3, dim=-1))
        o, state = ops.linear_attention(F.elu(q) + 1, F.softmax(k, -1), v, state)
        y = rearrange(ops.rms_norm(o), "b t h d -> b t (h d)") + self.bound(self.norms[1](x))
        y = y + self.conv(x.transpose(1, 2))[..., :t].transpose(1, 2) * self.free["a"]
        y = y * torch.sigmoid(F.silu(x)) + F.gelu(x)
        y = y + reduce(x, "b t (h d) -> b t h", "mean", h=2).sum(-1, keepdim=True)
        y = y + einsum(x, self.qkv.weight[:d], "b t d, e d -> b t e")
        y = y + torch.einsum("btd,d->bt", x, self.free["a"])[..., None]
        y = y + repeat(self.table.weight[0], "d -> b t d", b=b, t=t) + F.pad(x, (0, 0, 1, 0))[:, :-1]
        y = torch.where(torch.arange(t)[:, None] > 3, y, y * 2).cumsum(1) / torch.arange(1, t + 1)[:, None]
        return self.drop(torch.stack([y, -y]).logsumexp(0)), state
"""
SOFTMAX = """
class Mixer(nn.Module):
    def __init__(self, d_model, num_heads, layer_idx=0):
        super().__init__()
        self.h, self.proj = num_heads, nn.Linear(d_model, d_model)

    def forward(self, x, state=None):
        q = self.proj(x).unflatten(-1, (self.h, -1)).transpose(1, 2)
        a = (q @ q.mT).masked_fill(torch.ones(x.shape[1], x.shape[1]).triu(1).bool(), -1e9)
        o = (F.softmax(a, -1) @ q).transpose(1, 2).flatten(2)
        return o.clone(), {"past": x.sum(1), "more": (x[:, -1],)}
"""
BODY = """
class Mixer(nn.Module):
    def __init__(self, d_model, num_heads, layer_idx=0):
        super().__init__()
        self.w = nn.Parameter(torch.ones(d_model))
        self.register_buffer("n", torch.zeros(()))
        {init}

    def forward(self, x, state=None):
        {line}
        return x * self.w, state
"""
LINES = (
    "x.mul_(2)",
    "x = F.scaled_dot_product_attention(x, x, x, is_causal=True)",
    "x = x.clone(); x[..., 0] = x[..., 1] * F.dropout(x, 0.1, self.training)[..., 0]",
    "self.n += 1",
    "self.n.add_(1); x = x * self.n",
    "x = x * self.n.item()",
    "x = x * float(x.detach().numpy().mean())",
    "if x.sum() > 0: x = x + 1",
    "x = x[x > 0]",
    "x = x.nonzero().float()",
    "x = x / x.shape[0]",
    "x = torch.fft.rfft(x, dim=1).real",
    "x = x + torch.rand_like(x)",
    "x = torch.vmap(lambda r: r * 2)(x)",
    "x = torch.func.vmap(torch.func.grad(lambda r: r.sum()))(x.flatten(1)).view_as(x)",
    "x = torch.linalg.inv(torch.eye(3)).sum() + torch.linalg.norm(x, dim=-1, keepdim=True) + x",
    "x.register_hook(print)",
    "x = x @ x",
    "x = undefined",
    "x = x.to('cuda')",
    "x = x.to(torch.bfloat16).float().double()",
    "x = x.view(-1)",
    "assert False, 'no'",
    "raise SystemExit",
    "torch._check(x.shape[0] == 5); x = x * 1",
    "x = self.forward(x)[0]",
    "x = x.tolist()",
    "x = x + len(repr(x))",
    "with torch.no_grad():\n            x = x * 2",
    "with torch.autocast('cpu'):\n            x = x @ x.mT @ x",
    "with torch.inference_mode():\n            x = x * 2",
)
INITS = (
    "self.c = torch.ones(5000)",
    "self.c = self.n.item()",
    "self.c = torch.nn.Parameter(torch.empty(3))",
    "self.c = nn.Parameter(torch.randn(3, generator=torch.Generator()))",
    "self.c = nn.MultiheadAttention(d_model, 2)",
    "self.c = orthogonal(nn.Linear(d_model, d_model))",
    "self.c = weight_norm(nn.Linear(d_model, d_model))",
    "nn.init.eye_(self.w.unflatten(0, (2, -1)))",
    "self.c = nn.Linear(d_model / 2, 1)",
    "self.c = nn.Conv2d(1, 2, 3)(torch.zeros(1, 1, 5, 5))",
)
WHOLE = ("import nothing", "1 / 0", "class Mixer: pass", "x = (", "import asi_arch.ops as o\no.nothing")
SWEEP: list[list[object]] = [[True, [3]], [False, [2, 3]]]


def rehearse(translate: Callable[[bytes, Callable[[bytes], None]], None]) -> None:
    """Import what a candidate may import, then translate every program below.

    translate: of `worker.py`. What it answers is dropped: a faulty program is here to be refused, so that
    the making of its message is rehearsed too. At the end no source text is left in memory and what is
    there is moved out of the collector's sight, so that a child copies fewer pages.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in (*MODULES, *_modules()):
            importlib.import_module(name)
        for source, sweep in _programs():
            config = {"d_model": 8, "num_heads": 2, "layers": [0], "traces": sweep, "raw": False}
            request = json.dumps({"source": HEAD + source, "configs": [config]})
            translate(request.encode(), lambda answer: None)
    sys.modules.pop("candidate", None)
    torch.manual_seed(0)
    linecache.clearcache()
    gc.collect()
    gc.freeze()


def _modules() -> Iterator[str]:
    for package in PACKAGES:
        for module in pkgutil.walk_packages(importlib.import_module(package).__path__, package + "."):
            yield module.name


def _programs() -> Iterator[tuple[str, list[list[object]]]]:
    """Give each program with its traces: a train mode, and a state where one is made."""
    yield from ((source, SWEEP) for source in (SOUND, SOFTMAX))
    yield from ((BODY.format(init="pass", line=line), SWEEP[:1]) for line in LINES)
    yield from ((BODY.format(init=init, line="pass"), []) for init in INITS)
    yield from ((source, []) for source in WHOLE)
