"""``velo env check ID``: does an environment keep its contract, and how fast is it?"""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import Any

import click

from velodrome.cli.options import json_option
from velodrome.cli.output import note, out, out_heading, out_json, out_table, style
from velodrome.errors import UsageError

_COLOURS = {"ok": "green", "warn": "yellow", "bad": "red"}


@click.group()
def env() -> None:
    """Check a Gymnasium environment and time it."""


@env.command()
@click.argument("name", metavar="ID")
@click.option("-k", "--kwarg", "pairs", multiple=True, metavar="KEY=VALUE",
              help="An argument of the environment; repeatable.")
@click.option("-w", "--wrapper", "wrappers", multiple=True, metavar="NAME",
              help="A wrapper such as frame_stack:4; repeatable.")
@click.option("--seconds", type=click.FloatRange(0.0), default=1.0, show_default=True, metavar="S",
              help="How long to time each way of stepping; 0 to leave that out.")
@json_option
@click.pass_context
def check(
    ctx: click.Context, /, name: str, pairs: tuple[str, ...], wrappers: tuple[str, ...], seconds: float, as_json: bool,
) -> None:
    """Check a Gymnasium environment and time it.

    ID is a registered id, 'module:Name-v0', or 'file.py:ClassName' for a class of your own. Exits with 1 where
    something is bad.
    """
    from velodrome.cli.output import prints_to_stderr
    from velodrome.envs.adapter_factory import EnvFactory, find_spec, resolve
    from velodrome.envs.check import BAD, check_env
    from velodrome.envs.check_timing import recommend, time_env
    from velodrome.envs.wrappers import parse_wrappers

    with prints_to_stderr():
        target = resolve(name)
        if isinstance(target, str):
            find_spec(target)
        factory = EnvFactory(target, _kwargs(pairs), parse_wrappers(wrappers))
        found = check_env(factory)
        is_bad = any(finding.status == BAD for finding in found)
        timings = [] if is_bad or not seconds else time_env(factory, seconds)
    advice = recommend(timings) if timings else ""
    if as_json:
        out_json({
            "env": factory.name, "ok": not is_bad, "checks": [dataclasses.asdict(finding) for finding in found],
            "timings": [dataclasses.asdict(timing) for timing in timings], "recommendation": advice,
        })
    else:
        _show(found)
        if timings:
            out_heading("steps a second")
            out_table(
                ["mode", "environments", "steps/s", "stepped by"],
                [(t.mode, t.num_envs, round(t.steps_per_s) or None, t.source or t.problem) for t in timings],
            )
            out_heading(f"use {advice}")
    if is_bad:
        ctx.exit(1)


def _show(found: list[Any]) -> None:
    width = max(len(finding.name) for finding in found)
    for finding in found:
        status = style(f"{finding.status:4}", sys.stdout, fg=_COLOURS[finding.status])
        out(f"{status}  {finding.name:{width}}  {finding.detail}")
        for label, text in (("in", finding.where), ("try", finding.advice)):
            if text:
                out(f"{'':{width + 6}}  {label}: {text}")
        if finding.traceback:
            note(finding.traceback.rstrip())


def _kwargs(pairs: tuple[str, ...]) -> dict[str, Any]:
    """The arguments; a value is JSON if it can be, else text."""
    kwargs: dict[str, Any] = {}
    for pair in pairs:
        key, is_pair, text = pair.partition("=")
        if not is_pair or not key.isidentifier():
            raise UsageError("An argument of the environment is KEY=VALUE", given=repr(pair),
                             allowed="size=5, name=text")
        try:
            kwargs[key] = json.loads(text)
        except ValueError:
            kwargs[key] = text
    return kwargs
