"""What this machine has and lacks for a study, each with its cure."""

import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass

from asi_arch.engineer.isolation import detect
from asi_arch.llm.roles import KEYS, describe
from asi_arch.settings import Settings

REQUIRED = (
    "torch",
    "numpy",
    "scipy",
    "einops",
    "pydantic",
    "sqlalchemy",
    "bm25s",
    "pypdf",
    "rich",
    "matplotlib",
)
LEAST_BYTES = 4 * 2**30  # below this a worker and its wall do not fit beside each other
PROBE = """
import json, torch
print(json.dumps({"threads": torch.get_num_threads(), "cuda": torch.cuda.is_available(),
                  "vector": torch.backends.cpu.get_cpu_capability()}))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Symptom:
    """One thing that was looked at. cure: what to do about it; "" where all is well."""

    name: str
    state: str
    cure: str = ""


def examine_machine() -> tuple[Symptom, ...]:
    """Look at Python, packages, processors, memory, isolation and tools; torch is tried in a child."""
    return (_python(), *_packages(), _torch(), _cores(), _memory(), _isolation(), _models(), _formatter())


def cores() -> int:
    """Give the processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _python() -> Symptom:
    version = platform.python_version()
    old = sys.version_info < (3, 11)
    return Symptom(name="Python", state=version, cure="install Python 3.11 or newer" if old else "")


def _packages() -> tuple[Symptom, ...]:
    """Give one symptom for all packages that are there, and one for each that is not."""
    versions, missing = [], []
    for name in REQUIRED:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(Symptom(name=name, state="missing", cure="pip install -e . -c constraints.txt"))
    return (Symptom(name="packages", state=", ".join(versions)), *missing)


def _torch() -> Symptom:
    command = [sys.executable, "-W", "ignore", "-c", PROBE]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    except subprocess.TimeoutExpired:
        return Symptom(name="torch", state="did not start in 120 s", cure="look at the load of the machine")
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return Symptom(name="torch", state=f"cannot start: {last}", cure="pip install torch==2.13.0")
    found = json.loads(done.stdout)
    gpu = "a CUDA device is there, and not used yet" if found["cuda"] else "no CUDA device"
    return Symptom(name="torch", state=f"starts; {found['vector']}, one thread for each job; {gpu}")


def _cores() -> Symptom:
    usable, load = cores(), os.getloadavg()[0]
    state = f"{usable} processors usable, load {load:.1f}"
    busy = load > usable + 0.5
    return Symptom(
        name="processors",
        state=state,
        cure="other work is running: times suffer, scores do not" if busy else "",
    )


def _memory() -> Symptom:
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    total = pages * size
    cure = "use --workers 1 and close other programs" if total < LEAST_BYTES else ""
    return Symptom(name="memory", state=f"{total / 2**30:.1f} GiB in all", cure=cure)


def _isolation() -> Symptom:
    found = detect()
    return Symptom(name="isolation", state=found.state, cure=found.cure)


def _models() -> Symptom:
    """Name the keys that are there; a key's value is never shown."""
    found = [name for names in KEYS.values() for name in names if os.environ.get(name)]
    state = f"{' and '.join(found)} {'is' if len(found) == 1 else 'are'} set" if found else "no key is set"
    return Symptom(name="language models", state=f"{state}; {describe(Settings(), os.environ)}")


def _formatter() -> Symptom:
    found = shutil.which(
        "ruff", path=os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", "")])
    )
    return Symptom(
        name="ruff",
        state="formats the sources that are written" if found else "missing",
        cure="" if found else "pip install ruff",
    )
