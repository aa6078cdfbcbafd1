"""Inside the wall: turn a candidate's source into graphs, and nothing else.

This is the one place where candidate Python runs, in a child process that `sandbox.py` limits and
kills. What it sends back is JSON, and the other side believes none of it.
What this file does not protect from: the candidate shares this process and could forge the answer,
so a graph is a fact and a source only a claim (facts in docs/wall.md).
"""

import inspect
import json
import linecache
import resource
import signal
import sys
import traceback
import types
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from asi_arch.engineer.bounded import Bounded, place_of
from asi_arch.engineer.recorder import record_twice
from asi_arch.engineer.rehearsal import rehearse
from asi_arch.engineer.sandbox import RESULT
from asi_arch.engineer.trace import BATCHES, CANDIDATE_FILE, candidate_line, explained, trace
from asi_arch.errors import CandidateError

MAX_NODES = 4000
MAX_LEAVES = 16


def translate(request: bytes, send: Callable[[bytes], None]) -> None:
    """Answer one request: graphs of a source, or the failure, as one JSON object.

    request: `{"source": str, "configs": [{"d_model", "num_heads", "layers", "traces"}]}` where a
    trace is `[train, [T1, T2, ...]]`: the graph of the last piece after the pieces before it.
    """
    wanted = json.loads(request)
    signal.signal(signal.SIGXCPU, _out_of_time)
    try:
        answer = _translate(wanted["source"], wanted["configs"])
    except CandidateError as error:
        answer = {"failure": [error.phase, error.kind, error.message, error.trace]}
    except RecursionError:
        answer = {"failure": ["graph", "recursion", "the program recurses too deeply", ""]}
    except MemoryError:
        answer = {"failure": ["graph", "memory", "out of memory while the graph was made", ""]}
    except BaseException as error:  # whatever a candidate can make torch or us do, SystemExit too
        failed = _failed("graph", "trace", "no graph could be made", error)
        answer = {"failure": [failed.phase, failed.kind, failed.message, failed.trace]}
    signal.signal(signal.SIGXCPU, signal.SIG_IGN)  # the hard limit, seconds later, still holds
    send(RESULT + json.dumps(answer, allow_nan=False, separators=(",", ":")).encode())


def _out_of_time(_: int, frame: types.FrameType | None) -> None:
    """Raise in a candidate that has used up the soft limit on processor time, with the line it is at."""
    limit, _hard = resource.getrlimit(resource.RLIMIT_CPU)
    message = f"not done after {limit} s of processor time{place_of(frame)}"
    raise CandidateError("graph", "timeout", message)


def warm(_: str = "") -> None:
    """Rehearse, so that each candidate finds loaded whatever torch loads when it is first needed."""
    torch.set_num_threads(1)
    rehearse(translate)


def _translate(source: str, configs: list[Mapping[str, Any]]) -> dict[str, Any]:
    _guard()
    mixer = _load(source)
    graphs = _Graphs()
    for config in configs:
        for layer in config["layers"]:
            graphs.add(mixer, config, layer)
    return {"version": 1, "inits": graphs.inits, "layers": graphs.layers, "graphs": graphs.graphs,
            "traces": graphs.traces}  # fmt: skip


@cache
def _guard() -> None:
    """Refuse what a graph would lose silently: own backward passes and hooks."""
    original = torch.autograd.Function.apply.__func__  # type: ignore[attr-defined]

    def apply(cls: type, *args: Any, **kwargs: Any) -> Any:
        if not cls.__module__.startswith(("torch.", "asi_arch.ops")):
            raise CandidateError(
                "graph", "function", f"autograd.Function {cls.__name__}: its backward would be lost"
            )
        return original(cls, *args, **kwargs)

    def refuse_hooks(original: Callable[..., Any]) -> Callable[..., Any]:
        def hook(*args: Any, **kwargs: Any) -> Any:
            if sys._getframe(1).f_code.co_filename == CANDIDATE_FILE:
                message = "hooks are lost in a graph; write the computation in forward"
                raise CandidateError("graph", "hook", message)
            return original(*args, **kwargs)

        return hook

    torch.autograd.Function.apply = classmethod(apply)  # type: ignore[assignment]
    torch.Tensor.register_hook = refuse_hooks(torch.Tensor.register_hook)  # type: ignore[method-assign]
    for name in ("register_forward_hook", "register_forward_pre_hook", "register_full_backward_hook",
                 "register_full_backward_pre_hook"):  # fmt: skip
        setattr(nn.Module, name, refuse_hooks(getattr(nn.Module, name)))
    nn.init.trunc_normal_ = _trunc_normal  # type: ignore[assignment]


def _trunc_normal(
    tensor: torch.Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: None = None,
) -> torch.Tensor:
    """Fill from a truncated normal by its inverse: torch's own reads values back into Python."""
    low, high = (torch.special.ndtr(torch.tensor((z - mean) / std, dtype=torch.float64)) for z in (a, b))
    with torch.utils._python_dispatch._disable_current_modes():
        low_p, high_p = 2 * float(low) - 1, 2 * float(high) - 1
    with torch.no_grad():
        return tensor.uniform_(low_p, high_p).erfinv_().mul_(std * 2**0.5).add_(mean).clamp_(a, b)


def _load(source: str) -> type[nn.Module]:
    """Run the source as a module and give its `Mixer`.

    Raises:
        CandidateError: phase `source` for what fails on import, `contract` when there is no Mixer.
    """
    linecache.cache[CANDIDATE_FILE] = (len(source), None, source.splitlines(True), CANDIDATE_FILE)
    module = types.ModuleType("candidate")
    sys.modules["candidate"] = module
    try:
        exec(compile(source, CANDIDATE_FILE, "exec"), module.__dict__)
    except CandidateError:
        raise
    except Exception as error:
        raise _failed("source", "import", "the file does not import", error) from error
    mixer = module.__dict__.get("Mixer")
    if not (isinstance(mixer, type) and issubclass(mixer, nn.Module)):
        raise CandidateError("contract", "mixer", "no class Mixer(nn.Module) in the file")
    for function, wanted in (
        (mixer.__init__, ["d_model", "num_heads", "layer_idx"]),
        (mixer.forward, ["x", "state"]),
    ):
        names = list(inspect.signature(function).parameters)[1:]
        if names[: len(wanted)] != wanted:
            message = f"{function.__name__} takes ({', '.join(names)}); the contract is ({', '.join(wanted)})"
            raise CandidateError("contract", "signature", message)
    return mixer


def _failed(phase: str, kind: str, what: str, error: BaseException) -> CandidateError:
    where = candidate_line(error)
    text = str(error).strip().split("\n")[0][:300]
    tail = "".join(traceback.format_exception(error)[-8:])[-3000:]
    message = f"{what}: {type(error).__name__}: {text}" + (f" ({where})" if where else "")
    return CandidateError(phase, kind, message, tail)


class _Graphs:
    """All graphs of one candidate, each kept once."""

    def __init__(self) -> None:
        self.inits: list[Any] = []
        self.graphs: list[Any] = []
        self.layers: dict[str, int] = {}  # "d_model/num_heads/layer" -> init
        self.traces: dict[str, int] = {}  # "d_model/num_heads/layer/mode/1+2+3" -> graph
        self.known: dict[str, int] = {}

    def add(self, mixer: type[nn.Module], config: Mapping[str, Any], layer: int) -> None:
        """Build one layer and trace all that a config wants of it."""
        width, heads = config["d_model"], config["num_heads"]
        try:
            module, init = record_twice(lambda: mixer(width, heads, layer))
        except CandidateError:
            raise
        except Exception as error:
            call = f"Mixer(d_model={width}, num_heads={heads}, layer_idx={layer})"
            raise _failed("contract", "init", f"{call} fails", error) from error
        place = f"{width}/{heads}/{layer}"
        self.layers[place] = _keep(self.inits, self.known, init)
        pieces = _Pieces(module, width)
        raw = config.get("raw", False)
        for train, lengths in config["traces"]:
            module.train(train)
            graph = pieces.graph(train, tuple(lengths), raw)
            mode = "raw" if raw else "train" if train else "eval"
            key = f"{place}/{mode}/{'+'.join(map(str, lengths))}"
            self.traces[key] = _keep(self.graphs, self.known, graph)


def _keep(values: list[Any], known: dict[str, int], value: Any) -> int:
    text = ("i" if "out" in value else "g") + json.dumps(value, allow_nan=False)
    if text not in known:
        known[text] = len(values)
        values.append(value)
    return known[text]


class _Pieces:
    """One module fed in pieces: the states after each prefix, and the graphs by their shapes."""

    def __init__(self, module: nn.Module, width: int) -> None:
        self.module = module
        self.width = width
        self.states: dict[tuple[int, ...], Any] = {(): None}
        self.traced: dict[Any, Any] = {}

    def graph(self, train: bool, lengths: tuple[int, ...], raw: bool) -> Any:
        """Give the graph of the last piece after the pieces before it."""
        state = self._state(lengths[:-1])
        shapes = None if state is None else str(pytree.tree_map(lambda t: [*t.shape, str(t.dtype)], state[0]))
        key = (train, lengths[-1], shapes, raw)
        if key not in self.traced:
            make = None if state is None else dict(zip(BATCHES, state, strict=True)).__getitem__
            structure = _shape_of(self._last(lengths)[1])
            try:
                graph = trace(self.module, make, lengths[-1], self.width, both=not raw)
            except CandidateError as error:
                if error.kind == "batch":
                    self._require_pure(lengths)  # what changes between calls looks like the batch's doing
                raise
            except Exception as error:
                raise explained(error) from error
            if len(graph["nodes"]) > MAX_NODES:
                message = f"{len(graph['nodes'])} operators at T = {lengths[-1]} (limit {MAX_NODES})"
                raise CandidateError(
                    "graph", "size", message + "; no Python loop over T, use chunks or asi_arch.ops"
                )
            self._require_pure(lengths)
            self.traced[key] = graph | {"state": structure}
        return self.traced[key]

    def _state(self, lengths: tuple[int, ...]) -> Any:
        """Give the states at both batch sizes after a prefix, by running the module."""
        if lengths not in self.states:
            before = self._state(lengths[:-1])
            after = []
            for i, batch in enumerate(BATCHES):
                generator = torch.Generator().manual_seed(len(lengths))
                x = torch.randn(batch, lengths[-1], self.width, generator=generator)
                after.append(self._run(x, None if before is None else before[i])[1])
            self.states[lengths] = None if after[0] is None else after
        return self.states[lengths]

    def _run(self, x: torch.Tensor, state: Any) -> tuple[torch.Tensor, Any]:
        try:
            with torch.no_grad(), Bounded():
                result = self.module(x) if state is None else self.module(x, state)
        except CandidateError:
            raise
        except Exception as error:
            what = f"forward fails at B = {x.shape[0]}, T = {x.shape[1]}" + (
                ", with a state" if state else ""
            )
            raise _failed("contract", "forward", what, error) from error
        if not (isinstance(result, tuple) and len(result) == 2):
            raise CandidateError(
                "contract", "output", f"forward gives a {type(result).__name__}, not (y, state)"
            )
        y, state = result
        if not isinstance(y, torch.Tensor) or y.shape != x.shape or y.dtype != x.dtype:
            given = f"{list(y.shape)} {y.dtype}" if isinstance(y, torch.Tensor) else type(y).__name__
            raise CandidateError("contract", "output", f"y is {given}; x was {list(x.shape)} {x.dtype}")
        _check_state(state)
        return y, state

    def _last(self, lengths: tuple[int, ...]) -> tuple[torch.Tensor, Any]:
        """Run the last piece after the pieces before it."""
        state = self._state(lengths[:-1])
        x = torch.randn(BATCHES[0], lengths[-1], self.width, generator=torch.Generator().manual_seed(7))
        return self._run(x, None if state is None else state[0])

    def _require_pure(self, lengths: tuple[int, ...]) -> None:
        """Run the last piece twice: what changes between calls would be lost in a graph."""
        if self.module.training:
            return
        first, second = self._last(lengths)[0], self._last(lengths)[0]
        if not torch.equal(first, second) and not (first.isnan().any() or second.isnan().any()):
            message = f"two calls differ by {float((first - second).abs().max()):.1e}; forward must be pure"
            raise CandidateError("determinism", "stateful", message + " (no counters, no attribute writes)")


def _check_state(state: Any) -> None:
    leaves = pytree.tree_leaves(state)
    for leaf in leaves:
        if leaf is None and state is not None:
            message = "state holds a None beside tensors; leave it out, or give a tensor of zeros"
            raise CandidateError("contract", "state", message)
        if leaf is not None and not isinstance(leaf, torch.Tensor):
            message = f"state holds a {type(leaf).__name__}; it may hold tensors in tuples and dicts"
            raise CandidateError("contract", "state", message)
    if len(leaves) > MAX_LEAVES:
        raise CandidateError("contract", "state", f"state holds {len(leaves)} tensors (limit {MAX_LEAVES})")


def _shape_of(state: Any) -> Any:
    """Give a state's nesting as data: null, "t", a list or a dict."""
    if state is None:
        return None
    if isinstance(state, torch.Tensor):
        return "t"
    if isinstance(state, dict):
        return {str(key): _shape_of(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return [_shape_of(value) for value in state]
    raise CandidateError("contract", "state", f"state holds a {type(state).__name__}")
