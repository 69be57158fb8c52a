"""``velo show STUDY [TRIAL] --architecture``: the net of a trial, as text, as an SVG graph, or as a Python file."""

from __future__ import annotations

from pathlib import Path

from velodrome.cli.output import note, out, out_json
from velodrome.errors import UsageError


def show_architecture(
    study: str, number: int | None, store: Path, *, text: bool, as_json: bool, svg: Path | None, python: Path | None
) -> None:
    """Shows the nets of one trial, by default of the best one.

    Raises:
        UsageError: If the study's space has no net, or a file can't be written.
    """
    from velodrome.api import load_study
    from velodrome.search.arch import draw

    loaded = load_study(study, store=store)
    space = loaded.space
    if not space.nets:
        raise UsageError(f"Study {study!r} searches no architecture", given=", ".join(space.domains) or "no space",
                         allowed="a study whose space has a Net")
    trial = loaded.trial(number) if number is not None else loaded.best if loaded.goal.is_single else loaded.front[0]
    names = list(space.active_nets(trial.params))
    drawings = {name: draw.drawing_of(space.graph(trial.params, name)) for name in names}
    if as_json:
        out_json({"study": study, "trial": trial.number,
                  "nets": {name: draw.rows(drawing) for name, drawing in drawings.items()}})
    elif text or not (svg or python):
        for name, drawing in drawings.items():
            out(f"{name} of trial {trial.number}{_size(drawing)}")
            out(draw.text(drawing))
    if svg is not None:
        _write(svg, draw.svg(drawings[_only(names, "--svg")]))
    if python is not None:
        from velodrome.search.arch.export import python_source

        graph = space.graph(trial.params, _only(names, "--python"))
        _write(python, python_source(graph, f"The net of trial {trial.number} of study {study}"))


def _size(drawing: object) -> str:
    from velodrome.search.arch.draw import Drawing

    assert isinstance(drawing, Drawing)
    if drawing.measures is None:
        return ", of an operator that is not registered here"
    total = drawing.graph.total()
    return f": {total.params:,} parameters, {total.flops:,} FLOPs for one example"


def _only(names: list[str], option: str) -> str:
    if len(names) != 1:
        raise UsageError(f"{option} writes one net, and the trial has several", given=", ".join(names) or "none",
                         allowed="a trial with one net")
    return names[0]


def _write(path: Path, content: str) -> None:
    try:
        path.write_text(content)
    except OSError as error:
        raise UsageError("The file can't be written", given=str(path), allowed=str(error)) from None
    note(f"wrote {path}")
