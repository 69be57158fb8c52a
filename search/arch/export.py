"""A net as a Python file that stands alone: it needs torch, and nothing of velodrome.

The file has the classes that the net uses, taken from where they are written with all that they refer to, and one class
``Net`` whose ``state_dict`` has the same names as the one that ``Space.build`` makes: its weights can be loaded.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from velodrome.errors import SpaceError
from velodrome.search.arch.graph import Graph, Node
from velodrome.search.arch.operators import Op, find


def python_source(graph: Graph, title: str = "A net") -> str:
    """The Python file of a net.

    Args:
        graph: The net.
        title: The first line of the file's docstring.

    Raises:
        ArchitectureError: If it can't be built.
        SpaceError: If the source of an operator can't be found.
    """
    from velodrome.search.arch import modules

    plain = graph.simplified()
    measures = plain.measures()
    ops = {node.op: find(node.op, node.name, graph.homes.get(node.op, "")) for node in plain.nodes[1:]}
    built_in = [modules.MODULES[op.base].__name__ for op in ops.values() if op.make is None]
    imports, definitions = _needed(inspect.getsource(modules), built_in)
    for op in ops.values():
        if op.make is not None:
            more, own = _needed(*_of_users(op))
            imports |= dict.fromkeys(more)
            definitions |= own
    names = {name: op.make.__name__ if op.make is not None else modules.MODULES[op.base].__name__
             for name, op in ops.items()}
    shapes = [measure.shape for measure in measures]
    total = plain.total()
    lines = [
        f'"""{title}: {total.params:,} parameters, {total.flops:,} FLOPs for one example."""', "",
        "from __future__ import annotations", "", *imports, "", "",
        "\n\n\n".join(definitions.values()), "", "",
        "class Net(nn.Module):", f'    """{title}; one example has the shape {plain.shape}."""', "",
        "    def __init__(self) -> None:", "        super().__init__()", "        self.nodes = nn.ModuleDict({",
        *(f"            {node.name.replace('.', '/')!r}: {_call(node, ops[node.op], names[node.op], shapes)},"
          for node in plain.nodes[1:]),
        "        })", "", "    def forward(self, x: torch.Tensor) -> torch.Tensor:",
        '        """The output of the last node."""', "        v0 = x",
        *(f"        v{i} = self.nodes[{node.name.replace('.', '/')!r}]({', '.join(f'v{j}' for j in node.inputs)})"
          for i, node in enumerate(plain.nodes) if i),
        f"        return v{len(plain.nodes) - 1}",
    ]
    return "\n".join(lines) + "\n"


def _call(node: Node, op: Op, maker: str, shapes: list[tuple[int, ...]]) -> str:
    """``Conv((3, 32, 32), width=16)``."""
    settings = [f"{name}={value!r}" for name, value in (*op.preset, *node.settings)]
    return f"{maker}({', '.join([*(repr(shapes[j]) for j in node.inputs), *settings])})"


def _of_users(op: Op) -> tuple[str, list[str]]:
    """The source of the file that an operator of the user's is in, and the operator's name there."""
    assert op.make is not None
    module = inspect.getmodule(op.make)
    try:
        source = inspect.getsource(module) if isinstance(module, ModuleType) else Path(op.home).read_text()
    except (OSError, TypeError):
        raise SpaceError(f"The source of operator {op.name!r} can't be found", given=repr(op.make),
                         allowed="an operator that is written in a file") from None
    return source, [op.make.__name__]


def _needed(source: str, names: Iterable[str]) -> tuple[dict[str, None], dict[str, str]]:
    """The imports and the top-level definitions that these names need, themselves included, in the file's order."""
    imports: dict[str, str] = {}
    definitions: dict[str, ast.stmt] = {}
    for statement in ast.parse(source).body:
        match statement:
            case ast.Import() | ast.ImportFrom():
                for alias in statement.names:
                    if getattr(statement, "module", None) != "__future__":
                        imports[alias.asname or alias.name.partition(".")[0]] = ast.unparse(statement)
            case ast.FunctionDef() | ast.ClassDef():
                definitions[statement.name] = statement
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                definitions[name] = statement
    wanted: dict[str, None] = {"nn": None, "torch": None}
    open_names = list(names)
    while open_names:
        name = open_names.pop()
        if name in wanted:
            continue
        wanted[name] = None
        if name in definitions:
            parts = (part for node in _undecorated(definitions[name]) for part in ast.walk(node))
            open_names += [part.id for part in parts if isinstance(part, ast.Name)]
    used = dict.fromkeys(line for name, line in imports.items() if name in wanted)
    return used, {name: _segment(source, node) for name, node in definitions.items() if name in wanted}


def _undecorated(statement: ast.stmt) -> list[ast.AST]:
    """The statement, or of a function all but its decorators."""
    if isinstance(statement, ast.FunctionDef):
        return [statement.args, *statement.body, *([statement.returns] if statement.returns else [])]
    return [statement]


def _segment(source: str, statement: ast.stmt) -> str:
    """The statement as it is written, without decorators."""
    return ast.get_source_segment(source, statement) or ast.unparse(statement)
