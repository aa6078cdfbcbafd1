"""Controls: what a study may do without, and the policies that look for nothing, each told in words."""

from collections.abc import Iterable, Mapping
from typing import Any

from asi_arch.errors import SetupError

PARTS: Mapping[str, str] = {
    "cognition": "no brief has knowledge from papers, no move is drawn because of any, none can be searched",
    "analyst": "no result is explained, no brief has findings, no move is drawn by what trials say of it",
    "judge": "no judge is asked, and no mark weighs in the fitness",
    "novelty": "no proposal is refused as a repeat; a repeat is not trained again, and counts as failed",
}
"""The parts that a study can do without, by the words of `--without`, and what is missing then."""

CONTROLS: Mapping[str, str] = {
    "random": "each parent is drawn evenly from all that finished, whatever its fitness",
    "best_of_n": "the seed is every proposal's parent, so that n changes of it are compared",
}
"""The policies of selection that a search is compared with."""


def without_of(names: Iterable[str]) -> str:
    """Give the setting `without` that names some parts: each once, in the order of `PARTS`.

    Raises:
        SetupError: one of them is no such part.
    """
    wanted = {stripped for name in names if (stripped := name.strip())}
    unknown = sorted(wanted - set(PARTS))
    if unknown:
        raise SetupError(f"a study can do without {', '.join(PARTS)}, not without {unknown[0]!r}")
    return ",".join(part for part in PARTS if part in wanted)


def control_values(control: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Give the settings that a control is: its policy of selection, and no answer to stagnation.

    Args:
        control: its name.
        given: settings that were given beside it.

    Raises:
        SetupError: there is no such control, or another policy was given too.
    """
    if control not in CONTROLS:
        raise SetupError(f"--control must be {' or '.join(CONTROLS)}, not {control!r}")
    other = given.get("selection", control)
    if other != control:
        raise SetupError(f"--control {control} and selection={other} exclude each other; leave one out")
    return {"selection": control, "patience": 0}


def tell_controls(without: str, selection: str) -> str:
    """Say in one line what a study does without and which control selects; "" for a full study."""
    told = [f"without {part}: {PARTS[part]}" for part in without.split(",") if part]
    if selection in CONTROLS:
        told.append(f"control {selection}: {CONTROLS[selection]}")
    return "; ".join(told)


def name_controls(without: str, selection: str) -> str:
    """Name in few words what `tell_controls` explains, such as "without cognition, control random"."""
    named = [f"without {part}" for part in without.split(",") if part]
    return ", ".join([*named, *([f"control {selection}"] if selection in CONTROLS else [])])
