"""The hostile corpus once more, as an ordinary user, and where user namespaces are refused."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from corpus import entries
from nobody import as_nobody, make_home, refusing

from asi_arch.engineer.isolation import detect

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="mechanisms of the Linux kernel"),
]
CORPUS = entries(Path(__file__).parent / "hostile")
LEVEL = "from asi_arch.engineer.isolation import detect; print(detect().level)"
TESTS = ("-q", "-p", "no:cacheprovider", "-m", "slow or not slow", "-k", "nothing_of_it_crosses")


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    with make_home("hostile", "arena.py", "corpus.py", "conftest.py", "test_hostile.py") as folder:
        (folder / "pytest.ini").write_text("[pytest]\nmarkers = slow: takes minutes\n")
        yield folder


@pytest.mark.parametrize("namespaces", ["offered", "refused"])
def test_an_ordinary_user_is_unharmed_by_the_whole_corpus(home: Path, namespaces: str) -> None:
    python = as_nobody(home, *(refusing() if namespaces == "refused" else ()))
    level = subprocess.run([*python, "-c", LEVEL], capture_output=True, text=True, check=True).stdout.strip()
    assert level == (detect().level if namespaces == "offered" else "strong")
    words = [*python, "-m", "pytest", *TESTS, "tests/test_hostile.py"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=2400, check=False, cwd=home)
    assert done.returncode == 0, done.stdout[-3000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed
    assert int(passed[1]) == len(CORPUS)
