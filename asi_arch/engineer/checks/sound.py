"""Is the graph well behaved: finite, deterministic, and trained in all its parts."""

import itertools
import math

import torch

from asi_arch.engineer.candidate import Candidate
from asi_arch.engineer.checks.common import TRAIN_LENGTHS, inputs, verdict
from asi_arch.records import Verdict

DEAD = 1e-10  # of the output; what softmax cancels keeps 1e-16, and the least of a grammar's mixers 1e-4
INPUTS = (("normal", 1.0), ("zero", 0.0), ("10 x normal", 10.0))


def finite(candidate: Candidate) -> Verdict:
    """Outputs and gradients are finite in fp32 and bf16, for normal, zero and large inputs."""
    probes = list(itertools.product((1, 64), INPUTS, (False, True)))
    probes += [(1024, INPUTS[0], False), (1024, INPUTS[0], True)]
    for place in candidate.places:
        tensors = candidate.tensors(place, jitter=0.0, dtype=torch.float32)
        leaves = [t for t in tensors.values() if t.requires_grad]
        for length, (kind, factor), bf16 in probes:
            x = (inputs(length, place.d_model, 1) * factor).float().requires_grad_()
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                y, *_ = candidate.run(place, "eval", (length,), tensors, x)
            grads = torch.autograd.grad(y.float().pow(2).sum(), [x, *leaves], allow_unused=True)
            bad = [] if bool(y.isfinite().all()) else ["output"]
            bad += ["gradient"] if any(g is not None and not g.isfinite().all() for g in grads) else []
            if bad:
                where = f"T = {length}, {kind} input, {'bf16' if bf16 else 'fp32'}, layer {place.layer}"
                return verdict("finite", False, f"{' and '.join(bad)} not finite at {where}")
    message = f"outputs and gradients finite in {len(probes)} probes, fp32 and bf16, T to 1,024"
    return verdict("finite", True, message)


def determinism(candidate: Candidate) -> Verdict:
    """Two calls agree to the bit, and train and eval mode differ in dropout only."""
    for place in candidate.all_places:
        for length in TRAIN_LENGTHS if place in candidate.places else (candidate.length,):
            if not candidate.same_modes(place, length):
                message = f"train and eval mode differ beyond dropout at T = {length}, layer {place.layer}"
                return verdict("determinism", False, message)
    for place in candidate.places:
        tensors = candidate.tensors(place, 1.0, torch.float32)
        x = inputs(64, place.d_model, 8).float()
        with torch.no_grad():
            a, b = (candidate.run(place, "eval", (64,), tensors, x)[0] for _ in range(2))
        if not torch.equal(a, b):
            message = f"two calls differ by {float((a - b).abs().max()):.1e} (limit 0), layer {place.layer}"
            return verdict("determinism", False, message)
    lengths = ", ".join(map(str, sorted({*TRAIN_LENGTHS, candidate.length})))
    message = f"two calls are equal to the bit; train and eval differ in dropout only (T {lengths})"
    return verdict("determinism", True, message)


def gradients(candidate: Candidate) -> Verdict:
    """Every parameter gets a gradient that is more than rounding: moved by its size, it moves outputs."""
    count, least = 0, math.inf
    for place in candidate.places:
        tensors = candidate.tensors(place, 1.0, torch.float64)
        leaves = {name: tensor for name, tensor in tensors.items() if tensor.requires_grad}
        reached = dict.fromkeys(leaves, 0.0)
        for seed in (9, 10):
            x = inputs(64, place.d_model, seed)
            y, *_ = candidate.run(place, "eval", (64,), tensors, x)
            probe = torch.randn(y.shape, generator=torch.Generator().manual_seed(seed), dtype=y.dtype)
            total = max(float((y * probe).detach().abs().sum()), 1e-12)
            grads = torch.autograd.grad((y * probe).sum(), list(leaves.values()), allow_unused=True)
            for (name, tensor), grad in zip(leaves.items(), grads, strict=True):
                size = float(tensor.detach().abs().max()) + 0.1
                share = 0.0 if grad is None else float(grad.abs().max()) * size / total
                reached[name] = max(reached[name], share)
        dead = [name for name, share in reached.items() if share <= DEAD]
        if dead:
            message = f"no gradient reaches {', '.join(dead[:4])} ({len(dead)} of {len(reached)} parameters)"
            where = f"layer {place.layer} (limit {DEAD:.0e} of the output); use it or leave it out"
            return verdict("gradients", False, f"{message}, {where}")
        count, least = count + len(reached), min([least, *reached.values()])
    message = f"all {count} parameter tensors get a gradient; the least moves {least:.0e} of the output"
    return verdict("gradients", True, f"{message} (limit {DEAD:.0e})")
