from __future__ import annotations

import pytest

from velodrome.errors import UsageError
from velodrome.search.arch.net import Net
from velodrome.search.arch.stages import staged
from velodrome.search.default_sampler import choose_sampler
from velodrome.search.domains import Choice, Float
from velodrome.search.registry import make_sampler
from velodrome.search.space import Space

PLAIN = Space(lr=Float(0, 1))
NETS = Space(lr=Float(0, 1), net=Net((3,), "dense"))


@pytest.mark.parametrize(("space", "sampler", "reason"), [
    (None, "tpe", "no architecture"), (Space(), "tpe", "no architecture"), (PLAIN, "tpe", "no architecture"),
    (NETS, "predictor", "an architecture (net)"),
    (Space(kind=Choice(a={"net": Net((3,), "dense")}, b={})), "predictor", "an architecture (kind.net)"),
    (staged(NETS), "sharing", "the stages of weight sharing"),
])
def test_auto_looks_at_the_space(space: Space | None, sampler: str, reason: str) -> None:
    chosen = choose_sampler("auto", space)
    assert chosen.sampler == sampler
    assert reason in chosen.reason
    assert chosen.surprising == (sampler != "tpe")
    make_sampler(chosen.sampler, seed=0)


def test_a_sampler_that_is_named_is_taken_as_it_is() -> None:
    chosen = choose_sampler("tpe:n_startup_trials=3", NETS)
    assert (chosen.sampler, chosen.reason, chosen.surprising) == ("tpe:n_startup_trials=3", "", False)


def test_auto_has_no_options_and_is_no_sampler_of_its_own() -> None:
    with pytest.raises(UsageError, match="'auto' has no options"):
        choose_sampler("auto:start=3", NETS)
    with pytest.raises(UsageError, match="depends on the study"):
        make_sampler("auto", seed=0)
    with pytest.raises(UsageError, match="no such sampler"):
        make_sampler("scalar:sampler=auto", seed=0)
