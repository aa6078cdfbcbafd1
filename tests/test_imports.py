"""The house has floors: imports run downward only, and what is slow to import waits until it is needed."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "asi_arch"
FILES = sorted(PACKAGE.rglob("*.py"))

FLOORS = (
    ("errors", "papers", "records", "calls", "discoveries", "provenance"),
    ("space", "settings", "controls", "ops"),
    ("llm", "archive"),
    ("cognition", "search"),
    ("researcher", "engineer", "analyst"),
    ("loop",),
    ("study",),
    ("report", "live", "doctor", "verdicts", "calibrate", "seats"),
    ("cli", "__main__", "mcp_server", "terminal", "commands", "web"),
)
STRANGERS = {"researcher", "engineer", "analyst"}  # they meet in records.py
GROUND = ("papers", "records", "calls", "discoveries", "provenance", "errors", "settings", "space")
SLOW = {"torch", "scipy", "matplotlib", "sqlalchemy", "pydantic", "bm25s", "numpy", "pydantic_ai"}
TORCH_FREE = (
    "analyst",
    "archive",
    "cli",
    "cognition",
    "live",
    "llm",
    "report",
    "researcher",
    "search",
    "study",
)


def name_of(path: Path) -> str:
    """ "asi_arch/engineer/pool.py" -> "engineer.pool"; a package's __init__ is the package."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    return module.split(".")[0]


def imports_of(path: Path, everywhere: bool = True) -> Iterator[str]:
    """Full names of imported modules; also those inside functions, unless `everywhere` is False."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree) if everywhere else _at_import(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _at_import(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes that run when the module is imported: not the bodies of functions."""
    for child in ast.iter_child_nodes(tree):
        if not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            yield child
            yield from _at_import(child)


def own_imports(path: Path) -> Iterator[str]:
    """What a file imports of this package, without the package's name; the package itself is ""."""
    for full in imports_of(path):
        if full == "asi_arch" or full.startswith("asi_arch."):
            yield full.removeprefix("asi_arch").removeprefix(".")


def floor_of(room: str) -> int:
    for number, rooms in enumerate(FLOORS):
        if room in rooms:
            return number
    raise AssertionError(f"asi_arch/{room} stands on no floor of tests/test_imports.py; give it one")


HOUSE = [path for path in FILES if room_of(name_of(path)) not in ("", "spaces")]


@pytest.mark.parametrize("path", HOUSE, ids=name_of)
def test_imports_run_downward_only(path):
    here = room_of(name_of(path))
    for imported in own_imports(path):
        there = room_of(imported)
        if there in ("", here):
            continue
        assert there != "spaces", f"{path.name} imports {imported}: spaces are reached by space.load_space"
        assert floor_of(there) <= floor_of(here), f"{path.name} imports {imported}, which is above it"
        assert not {here, there} <= STRANGERS, f"{here} and {there} meet in records.py only"
        assert {here, there} != {"llm", "archive"}, "calls cross between llm and archive as records"


def test_no_files_of_the_house_import_one_another_in_a_circle():
    files = {name_of(path): path for path in FILES}
    graph = {
        name: {found for imported in own_imports(path) for found in _modules(imported, files)} - {name}
        for name, path in files.items()
    }
    order: dict[str, int] = {}

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, "circle: " + " > ".join((*trail[trail.index(name) :], name))
        if name not in order:
            for other in sorted(graph[name]):
                visit(other, (*trail, name))
            order[name] = len(order)

    for name in graph:
        visit(name, ())
    assert len(order) == len(files)


def _modules(imported: str, files: dict[str, Path]) -> set[str]:
    """The file that an import reaches: "records.Job" is records, "engineer.checks" is itself."""
    if imported in files:
        return {imported}
    parent = imported.rpartition(".")[0]
    return {parent} if parent in files else set()


def test_spaces_import_no_face_and_no_study():
    for path in FILES:
        if room_of(name_of(path)) == "spaces":
            rooms = {room_of(imported) for imported in own_imports(path)}
            assert not rooms & {"study", *FLOORS[-1], *FLOORS[-2]}, path


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_slow_packages_wait_where_a_face_could_reach_them(path):
    """Torch never enters these rooms; the other slow ones only inside functions, or behind the archive."""
    room = room_of(name_of(path))
    packages = {full.split(".")[0] for full in imports_of(path)}
    if room in TORCH_FREE:
        assert "torch" not in packages
    at_once = {full.split(".")[0] for full in imports_of(path, everywhere=False)}
    if room in GROUND or room in ("analyst", "cli", "commands", "live", "report", "terminal"):
        assert not at_once & SLOW
    if room == "researcher":
        assert not at_once & (SLOW - {"numpy"})  # behind the study, which has paid for it already


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_package_file_holds_a_docstring_only(path):
    if path.name == "__init__.py" and name_of(path) != "ops":
        body = ast.parse(path.read_text()).body
        assert len(body) <= 1
        assert all(isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) for node in body)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_only_the_worker_catches_everything(path):
    """Except in what is held up as a bad example: files that a check must reject."""
    if "rejects" in path.parts or name_of(path) == "engineer.worker":
        return
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ExceptHandler):
            names = {n.id for n in ast.walk(node.type) if isinstance(n, ast.Name)} if node.type else {"all"}
            assert not names & {"all", "Exception", "BaseException"}, f"{path}:{node.lineno}"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_no_file_is_longer_than_four_hundred_lines(path):
    assert len(path.read_text().splitlines()) <= 400


def test_importing_the_command_line_is_cheap_and_help_loads_nothing_slow():
    script = (
        "import sys; from asi_arch.cli import main\n"
        "sys.argv = ['asi-arch', '--help']\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        f"print('SLOW', sorted({SLOW!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "SLOW []"
    assert "Usage: asi-arch" in done.stdout


def test_asking_no_model_imports_no_library_of_models():
    script = (
        "import sys; from asi_arch.llm.models import open_models; from asi_arch.settings import Settings\n"
        "models = open_models(Settings(model='openai:gpt-5'), None, {'OPENAI_API_KEY': 'none'}, list)\n"
        "print({'pydantic_ai', 'openai', 'anthropic', 'genai_prices', 'sqlalchemy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_importing_every_torch_free_room_pulls_in_no_torch():
    modules = [f"asi_arch.{name_of(path)}" for path in FILES if room_of(name_of(path)) in TORCH_FREE]
    script = f"import sys\nfor m in {modules!r}: __import__(m)\nprint('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
