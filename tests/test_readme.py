"""What the README says of this repository is true: its tree, its links, its commands."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
FOLDERS = ("baselines", "rejects", "cognition")  # listed as folders: their files are found by listing


def listed_files() -> set[str]:
    """Read the paths of the indented tree that begins at `asi_arch/`."""
    lines = README[README.index("    asi_arch/\n") :].splitlines()
    open_folders: dict[int, str] = {}
    found = set()
    for line in lines:
        if not line.startswith("    ") or line.startswith("    benchmarks/"):
            break
        depth = (len(line) - len(line.lstrip())) // 2
        name = line.split()[0]
        folder = "".join(open_folders[d] for d in sorted(open_folders) if d < depth)
        open_folders = {d: n for d, n in open_folders.items() if d < depth}
        if name.endswith("/"):
            open_folders[depth] = name
        else:
            found.add(folder + name)
    return found


def files_of_the_package() -> set[str]:
    paths = (path.relative_to(ROOT) for path in (ROOT / "asi_arch").rglob("*.py"))
    inner = (p for p in paths if not ("spaces" in p.parts and set(p.parts) & set(FOLDERS)))
    return {p.as_posix() for p in inner if p.name != "__init__.py"}


def test_the_tree_lists_every_file_and_no_other() -> None:
    assert {path for path in listed_files() if path.endswith(".py")} == files_of_the_package()


def test_every_link_leads_to_a_file() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    for page in pages:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            assert target.startswith("http") or (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_command_that_is_named_exists() -> None:
    names = set(re.findall(r"\.venv/bin/asi-arch ([a-z]+)", README))
    command = [sys.executable, "-m", "asi_arch", "--help"]
    known = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert names >= {"run", "best", "show", "check", "submit", "baselines", "doctor"}
    assert all(re.search(rf"^\W*{name}\b", known, re.MULTILINE) for name in names)
