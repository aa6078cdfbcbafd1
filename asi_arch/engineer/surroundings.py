"""What a server's process sees: its variables, and the paths that Python needs to start and import."""

import os
import site
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from pathlib import Path

import asi_arch

PACKAGE = Path(asi_arch.__file__).parent


def environment(trusted: bool) -> dict[str, str]:
    """Give the whole environment of a server: no key and no secret reaches either.

    trusted: our own jobs also see PYTHONPATH and variables that start with ASI_ARCH_.
    """
    base = {"PATH": os.defpath, "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(PACKAGE.parent), "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONHASHSEED": "0"}  # fmt: skip
    keep = ("OPENBLAS_", "LD_LIBRARY_PATH") + (("ASI_ARCH_", "TZ") if trusted else ())
    base |= {key: value for key, value in os.environ.items() if key.startswith(keep)}
    if site.ENABLE_USER_SITE and os.path.isdir(site.getusersitepackages()):
        base["PYTHONUSERBASE"] = site.getuserbase()
    if trusted and "PYTHONPATH" in os.environ:
        base["PYTHONPATH"] += os.pathsep + os.environ["PYTHONPATH"]
    return base


def visible_paths(variables: Mapping[str, str]) -> list[str]:
    """Give the paths that Python needs under these variables: each exists, none is inside another.

    Of the folder that holds this package only the package is among them: beside it there may be
    studies, keys, or a repository's history.
    """
    kept: list[str] = []
    for path in sorted({path for path in _paths(variables) if os.path.exists(path)}):
        if not path.startswith(tuple(f"{outer}/" for outer in kept)):
            kept.append(path)
    return kept


def _paths(variables: Mapping[str, str]) -> Iterator[str]:
    yield str(PACKAGE)
    for prefix in (sys.prefix, sys.base_prefix, os.path.realpath(sys.base_prefix)):
        yield from (os.path.join(prefix, name) for name in ("bin", "lib", "lib64", "pyvenv.cfg"))
    yield from (sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib"))
    yield from site.getsitepackages()
    yield from (path for path in sys.path if os.path.basename(path) in ("site-packages", "dist-packages"))
    if site.ENABLE_USER_SITE:
        yield site.getusersitepackages()
    for name in ("PYTHONPATH", "LD_LIBRARY_PATH"):
        for path in filter(None, variables.get(name, "").split(os.pathsep)):
            if os.path.abspath(path) != str(PACKAGE.parent):
                yield os.path.abspath(path)
    yield from _links(sys.executable)


def _links(path: str) -> Iterator[str]:
    """Give a path, and what it links to, and so on."""
    yield path
    while os.path.islink(path):
        path = os.path.join(os.path.dirname(path), os.readlink(path))
        yield os.path.abspath(path)
