"""All checks on anyone's sources: read every file first, then judge them, in the order they came."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asi_arch.engineer.pool import LocalPool
from asi_arch.errors import SetupError
from asi_arch.records import Evidence, Job, Verdict
from asi_arch.space import Space

TRIAL = "trial"  # the stage of a space, if it has one, after which checks on trained weights are run


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """A file and the verdict of every check that it came to."""

    file: str
    checks: tuple[Verdict, ...]

    @property
    def failed(self) -> tuple[str, ...]:
        """Give the names of the checks that failed; empty when all passed."""
        return tuple(verdict.name for verdict in self.checks if not verdict.passed)

    def as_json(self) -> dict[str, Any]:
        """Give the judgement in the form of `asi-arch check --json`."""
        checks = [{"name": v.name, "passed": v.passed, "message": v.message} for v in self.checks]
        failed = list(self.failed)
        return {"file": self.file, "passed": not failed, "failed": failed, "checks": checks}


def read_sources(files: Sequence[str]) -> list[tuple[str, str]]:
    """Give (file, text) of every file.

    Raises:
        SetupError: a file cannot be read or is no UTF-8 text.
    """
    sources = []
    for file in files:
        try:
            sources.append((file, Path(file).read_text(encoding="utf-8-sig")))
        except OSError as error:
            raise SetupError(f"cannot read {file}: {error.strerror}; nothing was done") from None
        except UnicodeDecodeError:
            raise SetupError(f"cannot read {file}: not UTF-8 text; nothing was done") from None
    return sources


def judge(space: Space, sources: Sequence[tuple[str, str]], workers: int, train: bool) -> Iterator[Judgement]:
    """Give the judgement of each source, in the given order, as soon as it and those before it are known.

    train: also train what passed for a moment, where the space has a stage `trial`, because a fault
    such as a leak may only show on trained weights.
    """
    stage = space.stages.get(TRIAL) if train else None

    def run(source: tuple[str, str]) -> Judgement:
        job = Job(space=space.name, name=Path(source[0]).stem, source=source[1], stage=stage)
        return Judgement(file=source[0], checks=verdicts_of(pool.run(job)))

    with LocalPool(space, workers) as pool, ThreadPoolExecutor(workers) as threads:
        yield from threads.map(run, sources)


def verdicts_of(evidence: Evidence) -> tuple[Verdict, ...]:
    """Give an evidence's verdicts, its failure among them if no check stands for it."""
    failure = evidence.failure
    if failure is None or failure.phase in {v.name for v in evidence.checks if not v.passed}:
        return evidence.checks
    return (*evidence.checks, Verdict(name=failure.phase, passed=False, message=failure.message))
