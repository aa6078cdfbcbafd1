"""All settings of a study: one frozen record, from a TOML file and `--set key=value`."""

import difflib
import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, get_type_hints

from asi_arch.controls import without_of
from asi_arch.errors import SetupError


def _setting(default: Any, doc: str) -> Any:
    return field(default=default, metadata={"doc": doc})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of a study; every field is one key of the TOML file and of `--set`."""

    space: str = _setting("linear_attention", "family of architectures under study")
    seed: int = _setting(0, "random seed of the study: proposals, data order, initialisation")
    stage: str = _setting("explore", "stage at which candidates are measured")
    experiments: int = _setting(16, "candidates to measure, failed ones included")
    hours: float = _setting(0.0, "stop asking for new candidates after this time; 0: no limit")
    workers: int = _setting(0, "experiments at once; 0: one for each core")
    seed_runs: int = _setting(3, "runs of the seed, from which its noise is estimated")

    researcher: str = _setting(
        "auto",
        "who proposes: symbolic, model, agent (asi-arch mcp), or a mix such as symbolic:0.5,model:0.5; "
        "auto: the model if there is one, else symbolic",
    )
    without: str = _setting(
        "", "controls: parts that the study does without, of cognition, analyst, judge, novelty; empty: none"
    )
    mend_attempts: int = _setting(5, "times that what a model wrote is mended after it failed")
    claim_minutes: float = _setting(60.0, "a coding agent's brief is another's after so long in silence")

    selection: str = _setting(
        "thompson",
        "who becomes a parent: thompson, paper, uct, map_elites; or a control: random, best_of_n",
    )
    patience: int = _setting(
        50, "experiments without a gain before references widen and briefs turn orthogonal; 0: never"
    )
    pool_size: int = _setting(
        50, "candidate pool, from which references come: this many of the best (the paper's 50)"
    )
    parent_ranks: int = _setting(10, "selection paper: parents come from ranks 1 to this (the paper's 10)")
    num_references: int = _setting(4, "references in a brief, from the next ranks (the paper's 4)")
    cold_start: int = _setting(
        4, "selection paper: candidates from the seed before the pool opens (the paper's 200)"
    )
    pool_batch: int = _setting(4, "selection paper: results between two updates of the pool (the paper's 50)")
    num_cognitions: int = _setting(4, "cognitions in a brief")
    embedding: str = _setting(
        "none",
        "finds cognitions by meaning too: none, local (the package of asi-arch[embed]), or openai:NAME",
    )
    num_findings: int = _setting(8, "findings in a brief")
    novelty_attempts: int = _setting(10, "proposals that repeat something known before an id is given up")

    fitness: str = _setting("gain", "formula: gain (default), or paper (arXiv:2507.18074, eq. 2)")
    judge_draws: int = _setting(3, "times that a model judges a candidate, if there is one; 0: never")
    judge_weight: float = _setting(0.0, "weight of the judge's mark in the fitness, the other terms having 1")
    budget: str = _setting("full", "which runs are stopped early: full (none), halving, or racing")
    leads: int = _setting(5, "best candidates that `asi-arch verify` replicates")
    claim_seeds: int = _setting(8, "most fresh seeds of each side of a claim; 3 at least")
    steps: int = _setting(0, "training steps instead of the stage's own; 0: the stage's")
    learning_rate: float = _setting(0.0, "peak learning rate instead of the stage's own; 0: the stage's")
    check_seconds: float = _setting(900.0, "time limit of one candidate's checks")
    train_seconds: float = _setting(3600.0, "time limit of one training run")

    model: str = _setting(
        "", "language model of every role, such as openai:NAME, anthropic:NAME, google:NAME; empty: none"
    )
    model_designer: str = _setting("", "model that writes architectures; empty: `model`")
    model_mender: str = _setting("", "model that mends what failed; empty: `model`")
    model_judge: str = _setting("", "model that judges architectures; empty: `model`")
    model_analyst: str = _setting("", "model that explains results; empty: `model`")
    model_novelty: str = _setting("", "model that compares ideas; empty: `model`")
    model_summariser: str = _setting("", "model that sums up experiments for a brief; empty: `model`")
    model_reader: str = _setting("", "model that chooses among the knowledge that is found; empty: `model`")
    model_extractor: str = _setting("", "model that reads papers; empty: `model`")
    model_url: str = _setting("", "address of an OpenAI-compatible server for openai: models, with its /v1")
    model_temperature: float = _setting(-1.0, "sampling temperature; -1: the provider's own")
    model_tokens: int = _setting(0, "most tokens of one answer; 0: the provider's own limit")
    model_answers: str = _setting("tool", "how typed answers come: tool, native (JSON schema), or prompted")
    model_stream: str = _setting("off", "on: answers are streamed, for proxies that cut silent connections")
    model_seconds: float = _setting(600.0, "time limit of one answer of a model")
    model_prices: str = _setting("", "dollars per million tokens in/out where unknown, such as 0.25/2")
    budget_dollars: float = _setting(0.0, "stop when models have cost this much; 0: no limit")
    budget_tokens: int = _setting(0, "stop when models have read and written this many tokens; 0: no limit")
    budget_calls: int = _setting(0, "stop when models have answered this often; 0: no limit")


def keys() -> dict[str, str]:
    """Give every key with its one line of explanation, in order."""
    return {f.name: f.metadata["doc"] for f in fields(Settings)}


def load_settings(path: Path | None = None, overrides: Sequence[str] = ()) -> Settings:
    """Give the settings of a TOML file, if any, with `key=value` overrides on top.

    Raises:
        SetupError: the file cannot be read, a key is unknown (the nearest known one is named), or
            a value has the wrong type or range.
    """
    return with_values(Settings(), **given_values(path, overrides))


def given_values(path: Path | None = None, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Give the values that a TOML file and `key=value` overrides name, by key, and no defaults.

    Raises:
        SetupError: as `load_settings`, but for ranges.
    """
    values: dict[str, Any] = {}
    if path is not None:
        values |= _check(_read(path), str(path))
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals:
            raise SetupError(f"--set {text!r} has no '='; write --set key=value")
        values |= _check({key.strip(): _parse(key.strip(), value.strip())}, "--set")
    return values


def with_values(settings: Settings, **values: Any) -> Settings:
    """Give settings with some values replaced; None leaves a value as it is.

    Raises:
        SetupError: a value is out of range.
    """
    changed = replace(settings, **{key: value for key, value in values.items() if value is not None})
    _check_ranges(changed)
    return changed


def researcher_shares(text: str) -> dict[str, float]:
    """Read the setting `researcher`: names with their shares, which add up to 1; "auto" alone stays "auto".

    Raises:
        SetupError: it is no such text.
    """
    if text == "auto":
        return {text: 1.0}
    shares: dict[str, float] = {}
    for part in text.split(","):
        name, colon, share = (word.strip() for word in part.partition(":"))
        try:
            shares[name] = float(share) if colon else 1.0
        except ValueError:
            shares[name] = -1.0
    total = sum(shares.values())
    if not (set(shares) <= set(RESEARCHERS) and all(share >= 0 for share in shares.values()) and total > 0):
        known = ", ".join(repr(name) for name in ("auto", *RESEARCHERS))
        raise SetupError(
            f"setting 'researcher' must be one of {known}, or a mix such as 'symbolic:0.5,model:0.5', "
            f"not {text!r}"
        )
    return {name: share / total for name, share in shares.items() if share}


def is_without(settings: Settings, part: str) -> bool:
    """Tell whether a study does without a part, one of `controls.PARTS`."""
    return part in settings.without.split(",")


def as_values(settings: Settings) -> dict[str, int | float | str]:
    """Give settings as values by key."""
    return {key: getattr(settings, key) for key in keys()}


def to_toml(settings: Settings) -> str:
    """Give settings as a TOML file with the explanation above each key."""
    lines = []
    for f in fields(settings):
        value = getattr(settings, f.name)
        value = list(filter(None, value.split(","))) if f.name == "without" else value
        shown = json.dumps(value) if isinstance(value, str | list) else str(value)
        lines += [f"# {f.metadata['doc']}", f"{f.name} = {shown}"]
    return "\n".join(lines) + "\n"


def _read(path: Path) -> Mapping[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except OSError as error:
        raise SetupError(f"cannot read settings file {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SetupError(f"settings file {path} is not TOML: {error}") from None


def _kind(key: str, where: str) -> type:
    kinds = get_type_hints(Settings)
    if key not in kinds:
        near = difflib.get_close_matches(key, kinds, n=1, cutoff=0.0)[0]
        raise SetupError(f"unknown setting {key!r} in {where}; did you mean {near!r}?")
    kind: type = kinds[key]
    return kind


def _parse(key: str, text: str) -> int | float | str:
    kind = _kind(key, "--set")
    try:
        value: int | float | str = kind(text)
    except ValueError:
        raise SetupError(f"setting {key!r} needs {_noun(kind)}, not {text!r}") from None
    return value


def _check(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    checked: dict[str, Any] = {}
    for key, value in values.items():
        kind = _kind(key, where)
        if kind is float and type(value) is int:
            value = float(value)
        if key == "without" and isinstance(value, str | list):
            value = without_of(map(str, value) if isinstance(value, list) else value.split(","))
        if type(value) is not kind:
            raise SetupError(f"setting {key!r} in {where} needs {_noun(kind)}, not {value!r}")
        checked[key] = value
    return checked


def _noun(kind: type) -> str:
    return {int: "a whole number", float: "a number", str: "text"}[kind]


RESEARCHERS = ("symbolic", "model", "agent")
MAX_WORKERS = 1024  # threads that wait, each for a child process
_AT_LEAST_ONE = (
    "check_seconds",
    "train_seconds",
    "model_seconds",
    "seed_runs",
    "pool_size",
    "parent_ranks",
    "pool_batch",
    "novelty_attempts",
    "leads",
)
_LEAST = dict.fromkeys(_AT_LEAST_ONE, 1) | {"model_temperature": -1, "claim_seeds": 3}
_CHOICES = {
    "fitness": ("gain", "paper"),
    "selection": ("paper", "uct", "map_elites", "thompson", "random", "best_of_n"),
    "budget": ("full", "halving", "racing"),
    "model_answers": ("tool", "native", "prompted"),
    "model_stream": ("off", "on"),
}


def _check_ranges(settings: Settings) -> None:
    for f in fields(settings):
        value = getattr(settings, f.name)
        if isinstance(value, str):
            continue
        low = _LEAST.get(f.name, 0)
        if not low <= value < 2**63:
            raise SetupError(f"setting {f.name!r} must be {low} or more and below 2^63, not {value}")
    if settings.workers > MAX_WORKERS:
        raise SetupError(f"setting 'workers' must be {MAX_WORKERS} or less, not {settings.workers}")
    researcher_shares(settings.researcher)
    without_of(settings.without.split(","))
    for name, known in _CHOICES.items():
        if getattr(settings, name) not in known:
            words = " or ".join(repr(word) for word in known)
            raise SetupError(f"setting {name!r} must be {words}, not {getattr(settings, name)!r}")
