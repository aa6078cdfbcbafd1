"""An ordinary user: a home with a copy of the package, and a shell's words to become that user."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import asi_arch

NOBODY = 54321  # the number of a user that no machine has
HERE = Path(__file__).parent
PACKAGE = Path(asi_arch.__file__).parent


@contextmanager
def make_home(*tests: str) -> Iterator[Path]:
    """Make a home with the package, files and folders of tests/, and Python; skips where none can be made.

    The package stands in `repository`, the tests in `tests`, Python in `venv`.
    """
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        pytest.skip("only root can become somebody else")
    python = f"/usr/bin/python3.{sys.version_info.minor}"
    packages = sysconfig.get_path("purelib")
    folder = Path(tempfile.mkdtemp(prefix="asi-arch-home-"))
    folder.chmod(0o755)
    bin, site = folder / "venv/bin", folder / f"venv/lib/python3.{sys.version_info.minor}/site-packages"
    bin.mkdir(parents=True)
    site.mkdir(parents=True)
    (bin / "python").symlink_to(python)
    (folder / "venv/pyvenv.cfg").write_text("home = /usr/bin\n")
    (site / "more.pth").write_text(f"{packages}\n")
    no_caches = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PACKAGE, folder / "repository/asi_arch", ignore=no_caches)
    (folder / "tests").mkdir()
    for name in tests:
        copy = shutil.copytree if (HERE / name).is_dir() else shutil.copy
        copy(HERE / name, folder / "tests" / name)
    for path in (folder, *folder.rglob("*")):
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    try:
        probe = [*as_nobody(folder), "-c", "import psutil, pyseccomp, torch._C"]
        if subprocess.run(probe, capture_output=True, timeout=60, check=False).returncode:
            pytest.skip(f"no other user can run {python} with the packages of {packages}")
        yield folder
    finally:
        shutil.rmtree(folder)


def as_nobody(home: Path, *before: str) -> list[str]:
    """Give the words that run Python as that user, with an empty environment; `before` wraps it."""
    user = ["setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups"]
    variables = ["env", "-i", f"HOME={home}", f"PATH={os.defpath}", f"PYTHONPATH={home / 'repository'}"]
    return [*user, *before, *variables, str(home / "venv/bin/python")]


def refusing() -> list[str]:
    """Give the words before a command that is to find a machine that refuses user namespaces."""
    bubblewrap = shutil.which("bwrap")
    if not bubblewrap:
        pytest.skip("bubblewrap makes the machine that refuses")
    return [bubblewrap, "--unshare-user", "--disable-userns", "--dev-bind", "/", "/", "--proc", "/proc", "--"]
