"""Is the graph well behaved: finite, deterministic, and trained in all its parts."""

import itertools

import torch

from asi_arch.engineer.candidate import Candidate
from asi_arch.engineer.checks.common import TRAIN_LENGTHS, inputs, verdict
from asi_arch.records import Verdict

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
    return verdict(
        "determinism", True, "two calls are equal to the bit; train and eval differ in dropout only"
    )


def gradients(candidate: Candidate) -> Verdict:
    """Every parameter gets a gradient that is not zero."""
    count = 0
    for place in candidate.places:
        tensors = candidate.tensors(place, 1.0, torch.float64)
        reached: dict[str, float] = dict.fromkeys((n for n, t in tensors.items() if t.requires_grad), 0.0)
        for seed in (9, 10):
            x = inputs(64, place.d_model, seed)
            y, *_ = candidate.run(place, "eval", (64,), tensors, x)
            probe = torch.randn(y.shape, generator=torch.Generator().manual_seed(seed), dtype=y.dtype)
            leaves = [tensors[name] for name in reached]
            for name, grad in zip(reached, torch.autograd.grad((y * probe).sum(), leaves, allow_unused=True),
                                  strict=True):  # fmt: skip
                reached[name] = max(reached[name], 0.0 if grad is None else float(grad.abs().max()))
        dead = [name for name, size in reached.items() if size == 0.0]
        if dead:
            message = f"no gradient reaches {', '.join(dead[:4])} ({len(dead)} of {len(reached)} parameters)"
            return verdict("gradients", False, f"{message}, layer {place.layer}; use it or leave it out")
        count += len(reached)
    return verdict("gradients", True, f"all {count} parameter tensors get a gradient")
