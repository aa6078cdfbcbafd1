"""The rules that a candidate's syntax tree must obey, each with a message that its author can act on.

A name that an import binds to a module may only be followed by a dot and a name that `source.toml`
lists for that module, so no module is ever a value that another expression could walk on from.
"""

import ast
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

_LISTS = tomllib.loads((Path(__file__).parent / "source.toml").read_text())
MODULES = {name: frozenset(names.split()) for name, names in _LISTS["modules"].items()}
BUILTINS = frozenset(_LISTS["python"]["builtins"].split())
MODULE_OWN = frozenset(_LISTS["module"]["own"].split())
MODULE_USEFUL = frozenset(_LISTS["module"]["useful"].split())
NAMES = frozenset("__name__ __doc__ __all__".split())
REFUSED_NAMES = frozenset(
    "BaseException SystemExit KeyboardInterrupt GeneratorExit breakpoint compile delattr dir eval exec exit "
    "globals hash id input locals memoryview open print quit vars".split()
)
REFUSED_ATTRIBUTES = frozenset(
    "builtins ctypes glob importlib inspect io linecache multiprocessing np numpy os pathlib pickle shutil "
    "signal socket subprocess sys tempfile threading torch warnings "  # modules, as other modules hold them
    "ag_code ag_frame co_code co_consts cr_code cr_frame f_back f_builtins f_code f_globals f_locals gi_code "
    "gi_frame gi_yieldfrom mro tb_frame tb_lasti tb_next with_traceback "  # frames and classes
    "apply_ as_strided as_subclass backward data_ptr dump format_map from_file grad_fn map2_ map_ "
    "module_load pin_memory resize_ set_ share_memory_ storage tofile untyped_storage".split()  # of tensors
)
RECURRENT = frozenset("GRU GRUCell LSTM LSTMCell RNN RNNBase RNNCell".split())
UNWRITTEN = frozenset("torch.empty torch.empty_like".split())
DESCRIPTIONS = frozenset("torch.finfo torch.iinfo torch.device torch.Size".split())
BY_NAME = frozenset(("getattr", "hasattr", "setattr"))
MAX_NUMBERS = 2_000
MAX_TEXT = 1_000
VANISHES = 1e7  # ratio at which float32 loses a term of a sum
MAX_DEPTH = 200  # of the syntax tree; programs that people read have 30
MAX_APART = 3  # integers that a membership test may name
Fault = tuple[int, str]
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def faults_of(tree: ast.Module) -> list[Fault]:
    """Give every fault as (line, words), in the order of lines."""
    file = _File(tree)
    if file.depth > MAX_DEPTH:
        return [(1, f"nested {file.depth} deep (limit {MAX_DEPTH})")]
    found = {(getattr(node, "lineno", 1), words) for node in file.nodes for words in file.faults(node)}
    return sorted(found | set(_data_faults(file)))


class _File:
    """A tree with what its rules must know: parents, and what each name stands for."""

    def __init__(self, tree: ast.Module) -> None:
        self.nodes = list(ast.walk(tree))
        self.parents = {child: node for node in self.nodes for child in ast.iter_child_nodes(node)}
        depths = {id(tree): 0}
        for node in self.nodes:  # outer nodes come before inner ones
            depths |= {id(child): depths[id(node)] + 1 for child in ast.iter_child_nodes(node)}
        self.depth = max(depths.values())
        self.imported = dict(pair for node in self.nodes for pair in _bindings(node))
        self.bound = {name for node in self.nodes for name in _bound(node)} | set(self.imported)
        self.rules: dict[type[ast.AST], Callable[[ast.AST], Iterator[str]]] = {
            ast.Import: self._import, ast.ImportFrom: self._import_from, ast.Name: self._name,
            ast.Attribute: self._attribute, ast.Call: self._call, ast.ClassDef: self._class,
            ast.FunctionDef: self._function, ast.AsyncFunctionDef: self._function, ast.While: self._while,
            ast.BinOp: self._sum, ast.MatchClass: self._match, ast.Compare: self._compare,
            ast.Global: self._global, ast.ExceptHandler: self._except,
        }  # fmt: skip

    def faults(self, node: ast.AST) -> Iterator[str]:
        """Give what is wrong with one node."""
        rule = self.rules.get(type(node))
        return rule(node) if rule else iter(())

    def dotted(self, node: ast.AST) -> str:
        """Give `torch.nn.Linear` for an expression that begins at an imported name, or ""."""
        if isinstance(node, ast.Name):
            return self.imported.get(node.id, "")
        if isinstance(node, ast.Attribute):
            base = self.dotted(node.value)
            return f"{base}.{node.attr}" if base else ""
        return ""

    def above(self, node: ast.AST, kinds: tuple[type[ast.AST], ...]) -> Iterator[ast.AST]:
        """Give the nodes around a node that are of some kinds, from the inside out."""
        while node in self.parents:
            node = self.parents[node]
            if isinstance(node, kinds):
                yield node

    def _import(self, node: ast.AST) -> Iterator[str]:
        assert isinstance(node, ast.Import)
        for alias in node.names:
            yield from _module_faults(alias.name)

    def _import_from(self, node: ast.AST) -> Iterator[str]:
        assert isinstance(node, ast.ImportFrom)
        module = node.module or ""
        if node.level:
            yield "a relative import; a candidate is one file"
            return
        faults = list(_module_faults(module))
        yield from faults
        for alias in node.names if not faults else ():
            if alias.name not in MODULES[module] and f"{module}.{alias.name}" not in MODULES:
                yield _unlisted(module, alias.name)

    def _name(self, node: ast.AST) -> Iterator[str]:
        assert isinstance(node, ast.Name)
        name, parent = node.id, self.parents.get(node)
        if name in REFUSED_NAMES or (name.startswith("__") and name not in NAMES):
            yield f"{name} is not allowed"
        elif name not in self.bound and name not in BUILTINS and name not in NAMES:
            yield f"{name} is neither defined in this file nor an allowed name of Python"
        elif self.imported.get(name) in MODULES and not isinstance(parent, ast.Attribute):
            yield f"the module {name} is used as a value; write {name}.function where it is called"
        elif name in MODULE_OWN and isinstance(node.ctx, ast.Store) and self._in_class(node):
            yield f"{name} belongs to nn.Module; choose another name"
        elif name in (*BY_NAME, "type", "iter") and not self._is_called(node):
            yield f"{name} is used as a value; call it where it is needed"

    def _in_class(self, node: ast.AST) -> bool:
        around = next(self.above(node, (ast.ClassDef, ast.Lambda, *FUNCTIONS)), None)
        return isinstance(around, ast.ClassDef)

    def _is_called(self, node: ast.Name) -> bool:
        parent = self.parents.get(node)
        return (isinstance(parent, ast.Call) and parent.func is node) or (
            isinstance(parent, ast.Subscript) and node.id == "type"
        )

    def _attribute(self, node: ast.AST) -> Iterator[str]:
        assert isinstance(node, ast.Attribute)
        base, name = self.dotted(node.value), node.attr
        if base in MODULES:
            whole = f"{base}.{name}"
            if whole in MODULES:
                if not isinstance(self.parents.get(node), ast.Attribute):
                    yield f"the module {whole} is used as a value; import it by a name"
            elif name not in MODULES[base]:
                yield _unlisted(base, name)
        else:
            yield from _attribute_faults(name, isinstance(node.value, ast.Name) and node.value.id == "self")
            if name == "training" and not isinstance(self.parents.get(node), ast.Call | ast.keyword):
                yield "training outside the arguments of a dropout; a mixer is the same in both modes"
        if isinstance(node.ctx, ast.Load):
            return
        if base:
            yield f"{base}.{name} is changed; what is imported stays as it is"
        elif name in MODULE_OWN or name == "forward":
            yield f"{name} belongs to nn.Module; choose another name"
        elif self._in_forward(node) and isinstance(node.value, ast.Name) and node.value.id == "self":
            yield f"forward writes self.{name}; a call keeps nothing but the state that it returns"

    def _in_forward(self, node: ast.AST) -> bool:
        inside = next(self.above(node, FUNCTIONS), None)
        return isinstance(inside, FUNCTIONS) and inside.name == "forward"

    def _call(self, node: ast.AST) -> Iterator[str]:
        assert isinstance(node, ast.Call)
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name in BY_NAME:
            yield from self._by_name(name, node)
        elif name == "type" and (len(node.args) != 1 or node.keywords):
            yield "type(name, bases, ...) makes a class; write a class statement"
        elif name == "iter" and len(node.args) != 1:
            yield "iter(function, value) may never end; write a for loop with a range"
        elif isinstance(node.func, ast.Attribute) and node.func.attr == "format":
            text = node.func.value.value if isinstance(node.func.value, ast.Constant) else None
            if not isinstance(text, str) or any(c in text.replace("}}", "") for c in (".}", "[", "_", ".")):
                yield "str.format reads attributes; write an f-string"
        elif _counts_rows(node):
            yield "a count of the rows of the batch; treat rows alike"
        whole = self.dotted(node.func)
        yield from self._memory(whole, node)
        if whole.startswith(("torch.", "asi_arch.")) and whole not in DESCRIPTIONS and self._at_import(node):
            yield f"{whole} runs when the file is imported; make tensors and layers in __init__"

    def _memory(self, whole: str, node: ast.Call) -> Iterator[str]:
        new = isinstance(node.func, ast.Attribute) and node.func.attr.startswith("new_empty")
        if (whole in UNWRITTEN or new) and self._in_forward(node):
            yield f"{whole or 'new_empty'} in forward reads memory that was never written; use zeros"
        for keyword in node.keywords:
            if keyword.arg == "out" and whole.startswith("torch."):
                yield f"{whole} with out= writes in place; use what it returns"
            kind = self.dotted(keyword.value) if keyword.arg == "dtype" else ""
            if whole in UNWRITTEN and kind.startswith(
                ("torch.int", "torch.long", "torch.short", "torch.bool")
            ):
                yield f"{whole} of integers reads memory that was never written; use zeros"

    def _compare(self, node: ast.AST) -> Iterator[str]:
        assert isinstance(node, ast.Compare)
        for operator, side in zip(node.ops, node.comparators, strict=True):
            if isinstance(operator, ast.In | ast.NotIn) and isinstance(side, ast.Tuple | ast.List | ast.Set):
                numbers = [e for e in side.elts if isinstance(e, ast.Constant) and isinstance(e.value, int)]
                if len(numbers) > MAX_APART:
                    yield f"{len(numbers)} numbers are treated apart; a mixer is the same at every length"
            if isinstance(operator, ast.Eq | ast.NotEq) and isinstance(side, ast.Constant):
                name = getattr(node.left, "id", getattr(node.left, "attr", ""))
                if name in ("d_model", "num_heads") and side.value not in (0, 1):
                    yield f"{name} == {side.value!r}: a mixer is the same at every size"
        if any(_is_batch(side) for side in (node.left, *node.comparators)):
            yield "a test of the batch size; treat rows alike"

    def _sum(self, node: ast.AST) -> Iterator[str]:
        assert isinstance(node, ast.BinOp)
        if isinstance(self.parents.get(node), ast.BinOp) or not isinstance(node.op, ast.Add | ast.Sub):
            return
        terms = sorted(abs(value) for value in _terms(node) if value)
        if terms and terms[-1] > VANISHES * terms[0]:
            yield f"{terms[0]:g} vanishes beside {terms[-1]:g} in float32"

    def _by_name(self, name: str, node: ast.Call) -> Iterator[str]:
        wanted = node.args[1] if len(node.args) > 1 else None
        own = isinstance(node.args[0], ast.Name) and node.args[0].id == "self" if node.args else False
        if isinstance(wanted, ast.JoinedStr) and own and wanted.values:
            wanted = wanted.values[0]  # self's attributes may be numbered: f"conv{i}"
        if not isinstance(wanted, ast.Constant) or not isinstance(wanted.value, str):
            yield f"{name} with a name that is computed; write the attribute, or use nn.ModuleList"
            return
        yield from _attribute_faults(wanted.value, own)
        if name == "setattr" and (not own or wanted.value in MODULE_OWN | {"forward"}):
            yield "setattr is for self and its own attributes"

    def _at_import(self, node: ast.AST) -> bool:
        decorator = next((c for c in self.above(node, (*FUNCTIONS, ast.Lambda, ast.ClassDef))), None)
        while isinstance(decorator, ast.ClassDef):
            decorator = next(self.above(decorator, (*FUNCTIONS, ast.Lambda, ast.ClassDef)), None)
        return decorator is None

    def _class(self, node: ast.AST) -> Iterator[str]:
        assert isinstance(node, ast.ClassDef)
        if any(keyword.arg != "total" for keyword in node.keywords):
            yield f"class {node.name} has a metaclass or keywords; leave them out"
        for base in node.bases:
            last = self.dotted(base).rsplit(".", 1)[-1]
            if last in ("Tensor", "Parameter", "Buffer", "Generator", "dtype", "Size"):
                yield f"class {node.name} derives from {last}; a graph holds plain tensors only"
            elif isinstance(base, ast.Name) and base.id == "type":
                yield f"class {node.name} derives from type; a candidate makes no metaclass"

    def _function(self, node: ast.AST) -> Iterator[str]:
        assert isinstance(node, FUNCTIONS)
        name = node.name
        if not self._in_class(node):
            if name.startswith("__"):
                yield f"a function {name} is not allowed"
        elif name.startswith("__") and name.endswith("__") and name != "__init__":
            yield f"{name} is not allowed; a candidate defines __init__, forward and methods of its own"
        elif name in MODULE_OWN:
            yield f"{name} belongs to nn.Module; choose another name"

    def _while(self, node: ast.AST) -> Iterator[str]:
        assert isinstance(node, ast.While)
        leaves = any(isinstance(n, ast.Break | ast.Return | ast.Raise) for n in ast.walk(node))
        constant = not any(isinstance(n, ast.Name | ast.Call) for n in ast.walk(node.test))
        if constant and not leaves:
            yield "a loop without an end"

    def _match(self, node: ast.AST) -> Iterator[str]:
        assert isinstance(node, ast.MatchClass)
        for name in node.kwd_attrs:
            yield from _attribute_faults(name, False)

    def _global(self, node: ast.AST) -> Iterator[str]:
        assert isinstance(node, ast.Global)
        yield f"global {', '.join(node.names)}; a call keeps nothing but the state that it returns"

    def _except(self, node: ast.AST) -> Iterator[str]:
        assert isinstance(node, ast.ExceptHandler)
        if node.type is None:
            yield "a bare except; name the exception that is meant"


def _bindings(node: ast.AST) -> Iterator[tuple[str, str]]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield (alias.asname, alias.name) if alias.asname else (alias.name.split(".")[0],) * 2
    elif isinstance(node, ast.ImportFrom):
        for alias in node.names:
            yield alias.asname or alias.name, f"{node.module}.{alias.name}"


def _bound(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id
    elif isinstance(node, ast.arg):
        yield node.arg
    elif isinstance(node, (*FUNCTIONS, ast.ClassDef)) or (
        isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name
    ):
        yield str(node.name)
    elif isinstance(node, ast.MatchMapping) and node.rest:
        yield node.rest


def _is_batch(node: ast.AST) -> bool:
    """Tell `x.shape[0]` and `x.size(0)`."""
    if isinstance(node, ast.Subscript):
        inner, index = node.value, node.slice
        wanted = "shape"
    elif isinstance(node, ast.Call) and node.args:
        inner, index = node.func, node.args[0]
        wanted = "size"
    else:
        return False
    first = isinstance(index, ast.Constant) and index.value == 0
    return first and isinstance(inner, ast.Attribute) and inner.attr == wanted


def _terms(node: ast.AST) -> Iterator[float]:
    """Give the plain numbers in a chain of additions and subtractions."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub):
        yield from _terms(node.left)
        yield from _terms(node.right)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        yield float(node.value)


def _counts_rows(node: ast.Call) -> bool:
    """Tell `torch.ones_like(x).sum(0)`."""
    call, ones = node.func, getattr(node.func, "value", None)
    dims = [*node.args[:1], *(k.value for k in node.keywords if k.arg == "dim")]
    first = any(isinstance(d, ast.Constant) and d.value == 0 for d in dims)
    reduced = isinstance(call, ast.Attribute) and call.attr in ("sum", "cumsum", "prod", "logsumexp")
    name = getattr(getattr(ones, "func", None), "attr", "")
    return first and reduced and name in ("ones", "ones_like", "new_ones", "full", "full_like")


def _module_faults(name: str) -> Iterator[str]:
    if name in MODULES:
        return
    known = next((m for m in MODULES if "." not in m and name.startswith(m + ".")), None)
    if known:
        yield f"{name} is not allowed"
    else:
        yield f"import of {name}; allowed are torch, math, typing, einops and asi_arch.ops"


def _unlisted(module: str, name: str) -> str:
    if name in RECURRENT:
        return f"{name} runs a loop over T; use a recurrence of asi_arch.ops"
    return f"{module}.{name} is not allowed"


def _attribute_faults(name: str, own: bool) -> Iterator[str]:
    """Give what is wrong with an attribute of anything but a module. own: it is an attribute of self."""
    if (
        (name.startswith("__") and name != "__init__")
        or name in REFUSED_ATTRIBUTES
        or (name in MODULE_OWN and name not in MODULE_USEFUL and "_hook" not in name)
    ):
        yield f"attribute {name} is not allowed"
    elif "_hook" in name:
        yield f"{name}: hooks are lost in a graph; write the computation in forward"
    elif name.startswith("_") and name != "__init__" and not own:
        yield f"attribute {name} of something else than self is not allowed"
    elif name in RECURRENT:
        yield f"{name} runs a loop over T; use a recurrence of asi_arch.ops"


def _data_faults(file: _File) -> Iterator[Fault]:
    """Give signs of data in the text: what a candidate knows must be learned in training."""
    numbers = 0
    for node in file.nodes:
        if not isinstance(node, ast.Constant):
            continue
        value = node.value
        if isinstance(value, str) and not all(c.isprintable() or c in "\n\t\r" for c in value):
            yield node.lineno, "a text with control characters"
        if isinstance(file.parents.get(node), ast.Expr):
            continue
        if isinstance(value, str | bytes) and len(value) > MAX_TEXT:
            yield node.lineno, f"a text of {len(value):,} characters (limit {MAX_TEXT:,})"
        if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 64:
            yield node.lineno, "an integer of more than 64 bits"
        numbers += isinstance(value, int | float | complex)
    if numbers > MAX_NUMBERS:
        yield 1, f"{numbers:,} numbers in the text (limit {MAX_NUMBERS:,}); learn them"
