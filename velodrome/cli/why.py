"""``velo why STUDY [TRIAL]``: why a trial or a study ended as it did, and what to try."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click

from velodrome.cli.failures import store_hint
from velodrome.cli.options import json_option, split_target, store_option, study_and_trial
from velodrome.cli.output import cell, note, number, out, out_heading, out_json, pairs
from velodrome.types import Failure
from velodrome.why import Divergence, StudyStory, TrialStory


@click.command()
@study_and_trial
@store_option
@json_option
@click.pass_context
def why(ctx: click.Context, /, study: str, trial: str | None, store: Path, as_json: bool) -> None:
    """Tell why a trial or a study ended as it did, and what to try.

    Of a trial: what happened, the line of your code, your traceback. Of a study: why it stopped, and its failed
    trials, those that failed alike together.
    """
    from velodrome.store.reader import Reader
    from velodrome.why import study_story, trial_story

    name, chosen = split_target(study, trial)
    with Reader(store) as reader:
        row = reader.study(name)
        story = study_story(reader, row) if chosen is None else trial_story(reader, row, chosen)
    if as_json:
        out_json(asdict(story))
    elif isinstance(story, TrialStory):
        _tell_trial(story)
    else:
        _tell_study(story, store_hint(ctx))


def _tell_trial(story: TrialStory) -> None:
    out(f"trial {story.number} of {story.study} {story.headline}")
    if story.params:
        out(f"  {pairs(story.params)}")
    if story.divergence is not None:
        out(f"  {_divergence(story.divergence)}")
    if story.failure is not None:
        _tell_failure(story.failure, "" if story.state == "failed" else "an earlier attempt failed: ")
    if story.history:
        out_heading("what happened")
        first = story.history[0].at
        for moment in story.history:
            clock = datetime.fromtimestamp(moment.at, UTC).astimezone().strftime("%H:%M:%S")
            out(f"  {clock} +{moment.at - first:.1f} s  {cell(moment.text)}")
    _tell_advice(story.advice)


def _tell_study(story: StudyStory, store: str) -> None:
    out(f"study {story.study} {story.headline}")
    shown = {state: count for state, count in story.counts.items() if count}
    if shown:
        out("  " + ", ".join(f"{count} {state}" for state, count in shown.items()))
    if story.stops:
        out("  stopped by the scheduler: " + ", ".join(f"{count} at {where}" for where, count in story.stops.items()))
    if story.lost:
        out(f"  workers lost: {story.lost}; their trials were started again")
    if story.preempted:
        out(f"  places given away: {story.preempted}; those trials waited, and went on")
    for group in story.groups:
        numbers = ", ".join(map(str, group.numbers)) + (", ..." if group.count > len(group.numbers) else "")
        what = "trial failed" if group.count == 1 else "trials failed alike"
        out_heading(f"{group.count} {what} ({group.failure.kind}): {cell(group.failure.message)}")
        out(f"  trials {numbers}" if group.count > 1 else f"  trial {numbers}")
        _tell_failure(group.failure, "")
        _tell_advice(group.advice)
        note(f"more: velo why {story.study} {group.numbers[0]}{store}")


def _tell_failure(failure: Failure, before: str) -> None:
    """The place in the user's code, and their traceback."""
    if before:
        out(f"  {before}{cell(failure.message)}")
    if failure.file:
        out(f"  {failure.file}:{failure.line}" + (f"    {failure.code}" if failure.code else ""))
    if failure.traceback:
        out("")
        for line in failure.traceback.rstrip().splitlines():
            out(f"  {line}")


def _tell_advice(advice: Sequence[str]) -> None:
    if advice:
        out_heading("what to try")
        for line in advice:
            out(f"  - {line}")


def _divergence(divergence: Divergence) -> str:
    where = "in the result" if divergence.step is None else f"at step {divergence.step}"
    if divergence.last_step is None:
        return f"{divergence.metric} was never finite; {where} first"
    return (
        f"{divergence.metric} left the finite numbers {where}; "
        f"before, at step {divergence.last_step}, it was {number(divergence.last_value)}"
    )
