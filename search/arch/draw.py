"""A net as text and as an SVG graph: what stands at each node, what it reads, its shape and its size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from velodrome.errors import SpaceError
from velodrome.search.arch.graph import Graph, Node
from velodrome.search.arch.operators import Measure, shape_text

_BOX_W, _BOX_H, _GAP_X, _GAP_Y, _MARGIN = 190, 44, 24, 36, 16
_COLOURS = {"input": "#e8e8e8", "add": "#f5f0d8", "concat": "#f5f0d8", "residual": "#f5f0d8"}
_PLAIN = "#dcebf7"


@dataclass(frozen=True, slots=True)
class Drawing:
    """What is shown of a net: its simplified graph, and what its nodes make; no sizes where an operator is missing."""

    graph: Graph
    measures: Sequence[Measure] | None


def drawing_of(graph: Graph) -> Drawing:
    """The drawing of a net, without sizes where an operator of its own is not registered here."""
    try:
        plain = graph.simplified()
        return Drawing(plain, plain.measures())
    except SpaceError:
        return Drawing(graph, None)


def rows(drawing: Drawing) -> list[dict[str, Any]]:
    """One mapping for each node: name, operator, settings, what it reads, and its shape, parameters and FLOPs."""
    nodes = drawing.graph.nodes
    found = []
    for i, node in enumerate(nodes):
        size: Mapping[str, Any] = {}
        if drawing.measures is not None:
            shape, params, flops = drawing.measures[i]
            size = {"shape": list(shape), "params": params, "flops": flops}
        found.append({"node": node.name, "op": node.op, "settings": dict(node.settings),
                      "reads": [nodes[j].name for j in node.inputs], **size})
    return found


def text(drawing: Drawing) -> str:
    """The net as lines of text: a bar for each value that is still to be read, a row for each node.

    >>> print(text(drawing_of(Graph((4,), (Node("input", "input", (), ()), Node("a", "dense", (), (0,)))))))
    o  input         4
    o  a      dense  4  20 parameters
    """
    nodes = drawing.graph.nodes
    last = {source: i for i, node in enumerate(nodes) for source in node.inputs}
    lanes: list[int | None] = []
    drawn: list[list[str]] = []
    for i, node in enumerate(nodes):
        reads = [lane for lane, value in enumerate(lanes) if value in node.inputs]
        for lane in reads:
            if last[lanes[lane] or 0] == i:
                lanes[lane] = None
        mine = next((lane for lane, value in enumerate(lanes) if value is None), len(lanes))
        lanes[mine:mine + 1] = [i]
        bars = ["o" if lane == mine else "|" if value is not None else "." if lane in reads else " "
                for lane, value in enumerate(lanes)]
        if i not in last:
            lanes[mine] = None
        while lanes and lanes[-1] is None:
            lanes.pop()
        shape = params = ""
        if drawing.measures is not None:
            shape = shape_text(drawing.measures[i].shape)
            count = drawing.measures[i].params
            params = f"{count:,} parameters" if count else ""
        reads_text = "" if node.inputs in ((), (i - 1,)) else "reads " + ", ".join(nodes[j].name for j in node.inputs)
        drawn.append([" ".join(bars), node.name, _operator(node), shape, params, reads_text])
    widths = [max(len(row[k]) for row in drawn) for k in range(5)]
    lines = []
    for bars_text, name, operator, shape, params, reads_text in drawn:
        cells = [bars_text.ljust(widths[0]), name.ljust(widths[1]), operator.ljust(widths[2]), shape.ljust(widths[3]),
                 params.rjust(widths[4]), reads_text]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def svg(drawing: Drawing) -> str:
    """The net as an SVG graph, top to bottom: each node in a row below all that it reads."""
    nodes, level = drawing.graph.nodes, [0] * len(drawing.graph.nodes)
    for i, node in enumerate(nodes[1:], start=1):
        level[i] = 1 + max(level[j] for j in node.inputs)
    layers: list[list[int]] = [[] for _ in range(max(level) + 1)]
    for i, row in enumerate(level):
        layers[row].append(i)
    wide = max(map(len, layers))
    width = 2 * _MARGIN + wide * _BOX_W + (wide - 1) * _GAP_X
    height = 2 * _MARGIN + len(layers) * _BOX_H + (len(layers) - 1) * _GAP_Y
    place: dict[int, tuple[float, float]] = {}
    for row, layer in enumerate(layers):
        left = (width - len(layer) * _BOX_W - (len(layer) - 1) * _GAP_X) / 2
        for k, i in enumerate(layer):
            place[i] = left + k * (_BOX_W + _GAP_X), _MARGIN + row * (_BOX_H + _GAP_Y)
    size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="11">']
    parts += [_curve(place[source], place[i]) for i, node in enumerate(nodes) for source in node.inputs]
    parts += [_box(drawing, i, place[i]) for i in range(len(nodes))]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _operator(node: Node) -> str:
    if node.op == "input":
        return ""
    return " ".join([node.op, *(f"{name}={value}" for name, value in node.settings)])


def _curve(start: tuple[float, float], end: tuple[float, float]) -> str:
    x0, y0, x1, y1 = start[0] + _BOX_W / 2, start[1] + _BOX_H, end[0] + _BOX_W / 2, end[1]
    bend = max(_GAP_Y / 2, (y1 - y0) / 2)
    return (f'<path d="M{x0:.0f},{y0:.0f} C{x0:.0f},{y0 + bend:.0f} {x1:.0f},{y1 - bend:.0f} {x1:.0f},{y1:.0f}" '
            'fill="none" stroke="#888"/>')


def _box(drawing: Drawing, i: int, corner: tuple[float, float]) -> str:
    node, (x, y) = drawing.graph.nodes[i], corner
    colour = _COLOURS.get(node.op, _PLAIN)
    size = ""
    if drawing.measures is not None:
        shape, params, _ = drawing.measures[i]
        size = shape_text(shape) + (f", {params:,} parameters" if params else "")
    label = escape(_operator(node) or "input")
    label = label if len(label) <= 32 else label[:31] + "…"
    return (
        f'<g><title>{escape(node.name)}: {escape(_operator(node))}</title>'
        f'<rect x="{x:.0f}" y="{y:.0f}" width="{_BOX_W}" height="{_BOX_H}" rx="6" fill="{colour}" stroke="#666"/>'
        f'<text x="{x + _BOX_W / 2:.0f}" y="{y + 18:.0f}" text-anchor="middle">{label}</text>'
        f'<text x="{x + _BOX_W / 2:.0f}" y="{y + 34:.0f}" text-anchor="middle" fill="#555">{escape(size)}</text></g>'
    )
