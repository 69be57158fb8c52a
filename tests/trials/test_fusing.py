"""How many trials are trained together: what the words mean, and who decides."""

from __future__ import annotations

import pytest

from velodrome.errors import UsageError
from velodrome.trials.fusing import Choice, check, choose, measure, parse


def never(_most: int) -> Choice:
    raise AssertionError("nothing is to be measured")


def choice(
    text: str, *, target: int = 100, workers: int = 2, learns: bool = False, executor: str = "process"
) -> Choice:
    return choose(text, executor=executor, target=target, workers=workers, learns=learns, measure=never)


def test_what_the_words_mean() -> None:
    assert [parse(text) for text in ("auto", "off", "2", "128")] == [None, 1, 2, 128]


@pytest.mark.parametrize(("text", "hint"), [
    ("of", "off"), ("autto", "auto"), ("1", ""), ("0", ""), ("-3", ""), ("", ""),
])
def test_other_words_are_refused(text: str, hint: str) -> None:
    with pytest.raises(UsageError, match="2 or more") as caught:
        parse(text)
    assert not hint or f"Did you mean '{hint}'?" in str(caught.value)


@pytest.mark.parametrize(("text", "executor", "fuses", "words"), [
    ("8", "process", False, "train is a function of a trial"), ("8", "inline", True, "one trial after another"),
    ("8", "ray", True, "the executor process"),
])
def test_a_number_is_refused_where_nothing_can_be_fused(text: str, executor: str, fuses: bool, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        check(text, executor, "train", fuses=fuses)


def test_auto_and_off_do_everywhere() -> None:
    for text in ("auto", "off"):
        for executor in ("process", "inline", "ray"):
            check(text, executor, "train", fuses=False)


def test_as_asked_but_no_more_than_an_even_part() -> None:
    assert choice("16").size == 16
    assert choice("16", learns=True).size == 16
    few = choice("64", target=100, workers=4)
    assert (few.size, few.action) == (25, "fuse")
    assert "64 were asked for" in few.reason
    assert choice("64", target=3, workers=4).size == 1
    assert choice("off").size == 1


def test_auto_measures_with_as_many_as_a_worker_could_have() -> None:
    asked: list[int] = []

    def found(most: int) -> Choice:
        asked.append(most)
        return Choice(min(32, most), "fuse", "32 is best")

    for target, workers, learns in ((256, 2, False), (256, 2, True), (100, 1, True)):
        choose("auto", executor="process", target=target, workers=workers, learns=learns, measure=found)
    assert asked == [128, 16, 12]
    told = choose("auto", executor="process", target=256, workers=2, learns=True, measure=found)
    assert (told.size, told.action) == (16, "fuse")
    assert told.reason.startswith("32 is best; not above 16, since the sampler learns from results (--fuse N")


@pytest.mark.parametrize("settings", [{"target": 6}, {"target": 40, "learns": True}, {"executor": "inline"}])
def test_auto_does_not_measure_where_it_can_not_pay(settings: dict[str, object]) -> None:
    found = choice("auto", **settings)  # type: ignore[arg-type]  # the keywords of choice
    assert (found.size, found.action, found.surprising) == (1, "not fuse", False)


def test_a_function_is_not_measured() -> None:
    found = measure(lambda trial: 1.0, "cpu", [{}])
    assert (found.size, found.surprising) == (1, True)
    assert "no training job" in found.reason
