"""What flows into what in a mixer's `forward`, read from its syntax tree alone: nothing is run."""

import ast
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field


@dataclass(slots=True)
class Flow:
    """A mixer's layers, and the expressions that each local variable of `forward` was given.

    layers: attribute of self to the call that made it. buffers: attributes that are registered.
    numbers: module constants that are numbers. assigned: a variable's expressions, all in one bag,
    so what is read of a variable that was given anew is what any of them says.
    """

    layers: dict[str, ast.Call] = field(default_factory=dict)
    buffers: set[str] = field(default_factory=set)
    numbers: dict[str, float] = field(default_factory=dict)
    methods: dict[str, ast.FunctionDef] = field(default_factory=dict)
    assigned: dict[str, list[ast.expr]] = field(default_factory=dict)
    input: str = "x"

    @property
    def forward(self) -> ast.FunctionDef | None:
        """Give the definition of `forward`, if there is one."""
        return self.methods.get("forward")

    @property
    def nodes(self) -> list[ast.AST]:
        """Give all nodes of `forward`."""
        return list(ast.walk(self.forward)) if self.forward else []

    @property
    def initial(self) -> list[ast.AST]:
        """Give all nodes of `__init__`."""
        return list(ast.walk(self.methods["__init__"])) if "__init__" in self.methods else []

    def reaches(self, expression: ast.expr, without: Collection[str] = ()) -> list[ast.AST]:
        """Give all nodes that an expression depends on, through variables and own methods.

        without: variables that are not followed.
        """
        seen: list[ast.AST] = []
        names = set(without)
        stack: list[ast.AST] = [expression]
        while stack:
            node = stack.pop()
            seen.append(node)
            stack.extend(ast.iter_child_nodes(node))
            if isinstance(node, ast.Name) and node.id in self.assigned and node.id not in names:
                names.add(node.id)
                stack.extend(self.assigned[node.id])
            method = own(node)
            if method in self.methods and method not in names:
                names.add(method)
                stack.extend(self.methods[method].body)
        return seen

    def made_by(self, attribute: str) -> str:
        """Give the name of the class that made a layer, such as "Linear", or ""."""
        return called(self.layers[attribute]) if attribute in self.layers else ""

    def number(self, node: ast.AST | None) -> float | None:
        """Give the number that a node stands for, if it is a literal or a module constant."""
        if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
            return float(node.value)
        return self.numbers.get(node.id) if isinstance(node, ast.Name) else None


def read_flow(tree: ast.Module) -> Flow:
    """Give the flow of the class `Mixer` of a module, or of its last class; empty without a class."""
    flow = Flow()
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            value, target = node.value.value, node.targets[0]
            if isinstance(value, int | float) and abs(value) < 1e18 and isinstance(target, ast.Name):
                flow.numbers[target.id] = float(value)  # a larger int may be no float
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    chosen = [c for c in classes if c.name == "Mixer"] or classes[-1:]
    if not chosen:
        return flow
    flow.methods = {n.name: n for n in chosen[0].body if isinstance(n, ast.FunctionDef)}
    _read_layers(flow)
    if flow.forward is not None:
        arguments = flow.forward.args.args
        flow.input = arguments[1].arg if len(arguments) > 1 else "x"
        for part in ast.walk(flow.forward):
            if isinstance(part, ast.Assign):
                for target in part.targets:
                    _assign(flow, target, part.value)
            elif isinstance(part, ast.AugAssign | ast.AnnAssign) and part.value is not None:
                _assign(flow, part.target, part.value)
    return flow


def _read_layers(flow: Flow) -> None:
    for node in flow.initial:
        if isinstance(node, ast.Assign) and own(node.targets[0]) and isinstance(node.value, ast.Call):
            flow.layers[own(node.targets[0])] = node.value
        elif isinstance(node, ast.Call) and called(node) == "register_buffer":
            match node.args[:1]:
                case [ast.Constant(value=str(name))]:
                    flow.buffers.add(name)


def _assign(flow: Flow, target: ast.expr, value: ast.expr) -> None:
    """Pair targets with values, also through `(f(t) for t in (a, b))`; else each gets the whole."""
    if isinstance(target, ast.Name):
        flow.assigned.setdefault(target.id, []).append(value)
        return
    if not isinstance(target, ast.Tuple | ast.List):
        return
    values: list[list[ast.expr]] = [[value]] * len(target.elts)
    match value:
        case ast.Tuple(elts=elts) if len(elts) == len(target.elts):
            values = [[e] for e in elts]
        case ast.GeneratorExp(elt=elt, generators=[ast.comprehension(iter=ast.Tuple(elts=elts))]):
            values = [[elt, e] for e in elts] if len(elts) == len(target.elts) else values
    for one, parts in zip(target.elts, values, strict=True):
        for expression in parts:
            _assign(flow, one, expression)


def own(node: ast.AST) -> str:
    """Give X of `self.X`, or ""."""
    match node:
        case ast.Attribute(value=ast.Name(id="self"), attr=name):
            return name
    return ""


def called(node: ast.AST) -> str:
    """Give the last name of what a call calls: "silu" of `F.silu(x)` and of `x.silu()`, else ""."""
    match node:
        case ast.Call(func=ast.Attribute(attr=name)) | ast.Call(func=ast.Name(id=name)):
            return name
    return ""


def calls(nodes: Iterable[ast.AST], *names: str) -> list[ast.Call]:
    """Give the calls of any of some names among nodes."""
    return [node for node in nodes if isinstance(node, ast.Call) and called(node) in names]


def owned(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """Give all X of `self.X` among nodes."""
    return (name for name in map(own, nodes) if name)


def argument(call: ast.Call, place: int, name: str) -> ast.expr | None:
    """Give an argument by place or name."""
    if place < len(call.args):
        return call.args[place]
    return next((k.value for k in call.keywords if k.arg == name), None)
