"""Byte-level language modelling over the Python standard library's own sources.

The sources are on every machine that runs this program, so nothing is downloaded. They differ
between Python versions, and so do the scores: `fingerprint` says which text was used.
"""

import hashlib
import math
import os
import sysconfig
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import numpy as np
import torch

from asi_arch.engineer.task import Rows, RowScores, Scores, mean_metric
from asi_arch.records import Split

VOCAB = 128  # ASCII; other bytes become "?"
TEST_PERCENT = 10
VALIDATION_PERCENT = 10

# Not the library's own code, or tables rather than text.
EXCLUDED = (
    "site-packages",
    "dist-packages",
    "/test",
    "/lib2to3/",
    "/idlelib/",
    "/encodings/",
    "/pydoc_data/",
    "/turtledemo/",
)


class Text:
    """Windows at random places of one split's bytes.

    text: [N] uint8 below VOCAB, the split's files one after the other.
    """

    def __init__(self, text: np.ndarray) -> None:
        self.text = text

    def sample(self, rng: np.random.Generator, rows: int, length: int) -> Rows:
        """Draw windows of `length` bytes; each byte's target is the next one."""
        starts = rng.integers(0, len(self.text) - length, rows)
        windows = self.text[starts[:, None] + np.arange(length + 1)].astype(np.int64)
        tokens = torch.from_numpy(windows)
        return Rows(inputs=tokens[:, :-1].contiguous(), targets=tokens[:, 1:].contiguous())

    def evaluation(self, rng: np.random.Generator, rows: int, length: int) -> Mapping[str, Rows]:
        """Draw one group of windows."""
        return {"text": self.sample(rng, rows, length)}

    def score(self, groups: Mapping[str, RowScores]) -> Scores:
        """Give `bits_per_byte`."""
        bits = groups["text"].nll / math.log(2)
        return Scores(metrics={"bits_per_byte": mean_metric([bits])}, details={})


def load(split: Split) -> Text:
    """Give the task on one split. Files of the other splits are not opened."""
    return Text(_read(split))


def library() -> Path:
    """Give the folder of the standard library."""
    return Path(sysconfig.get_paths()["stdlib"])


def files(folder: Path, split: Split) -> list[Path]:
    """Give the sources of a split below a folder, sorted by relative path."""
    return [folder / name for name in sorted(_names(folder)) if split_of(name) == split]


def split_of(name: str) -> Split:
    """Give the split of a file by the MD5 of its path relative to the library, with "/" in it."""
    percent = int(hashlib.md5(name.encode(), usedforsecurity=False).hexdigest(), 16) % 100
    if percent < TEST_PERCENT:
        return "test"
    return "validation" if percent < TEST_PERCENT + VALIDATION_PERCENT else "train"


def fingerprint(split: Split) -> str:
    """Give 16 hex digits of the SHA-256 of a split's bytes: equal text, equal fingerprint."""
    return hashlib.sha256(_read(split).tobytes()).hexdigest()[:16]


def _names(folder: Path) -> Iterator[str]:
    for where, folders, names in os.walk(folder):
        prefix = (Path(where).relative_to(folder) / "x").as_posix()[:-1]  # "" or "a/b/"
        folders[:] = [name for name in folders if _is_text(f"{prefix}{name}/")]
        yield from (prefix + name for name in names if name.endswith(".py") and _is_text(prefix + name))


def _is_text(name: str) -> bool:
    return not any(part in "/" + name for part in EXCLUDED)


@cache
def _read(split: Split) -> np.ndarray:
    raw = b"".join(path.read_bytes() for path in files(library(), split))
    text = np.frombuffer(raw, dtype=np.uint8)
    return np.where(text < VOCAB, text, ord("?")).astype(np.uint8)
