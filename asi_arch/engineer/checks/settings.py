"""Settings of the parameters under which a graph is probed, so that gates closed at the start open."""

import torch
from torch import Tensor

from asi_arch.engineer.bundle import Place
from asi_arch.engineer.candidate import Candidate

SETTINGS = ("initial", "jittered", "raised", "lowered")
FAR = ("raised", "lowered")
FAR_MOVE = 8.0  # over sqrt(fan-in), beside twice the parameter's root mean square


def tensors_of(
    candidate: Candidate, place: Place, setting: str, dtype: torch.dtype = torch.float64
) -> dict[str, Tensor]:
    """Give a place's tensors under one setting; none requires a gradient.

    initial: as replayed. jittered: p + (0.5 rms(p) + 0.1) x normal. raised and lowered: p + or - m x
    (1 + normal / 2), m = 2 rms(p) + 8 / sqrt(fan-in) with the fan-in of a vector being 1: a gate on one
    number opens up to 8 away from where the number starts, and so does a gate on a mean.
    """
    known = candidate.tensors(place, float(setting != "initial" and setting not in FAR), dtype)
    generator = torch.Generator().manual_seed(29 + SETTINGS.index(setting))
    made: dict[int, Tensor] = {}
    for tensor in known.values():
        if id(tensor) not in made:  # tied names share one tensor
            far = setting in FAR and tensor.requires_grad
            made[id(tensor)] = _far(tensor, setting, generator) if far else tensor.detach()
    return {name: made[id(tensor)] for name, tensor in known.items()}


def _far(tensor: Tensor, setting: str, generator: torch.Generator) -> Tensor:
    still = tensor.detach()
    fan_in = still.numel() // max(still.shape[0], 1) if still.dim() > 1 else 1
    size: Tensor = 2 * still.pow(2).mean().sqrt() + FAR_MOVE / max(fan_in, 1) ** 0.5
    move = 1 + 0.5 * torch.randn(still.shape, generator=generator, dtype=torch.float64).to(still.dtype)
    return still + (size if setting == "raised" else -size) * move
