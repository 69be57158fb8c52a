from __future__ import annotations

import pytest
import torch

from velodrome.errors import UsageError
from velodrome.resources.inventory import Gpu, Inventory
from velodrome.rl.algorithms import resources_of, training_space
from velodrome.rl.devices import learning_device, resume_draws
from velodrome.types import ParamValue


@pytest.mark.parametrize(("algo", "env", "settings", "given", "expected"), [
    ("ppo", "CartPole-v1", {}, "", ""), ("ppo", "CartPole-v1", {}, "cpus=2", "cpus=2"),
    ("ppo", "CartPole-v1", {"device": "cuda"}, "cpus=2", "cpus=2,gpu=auto"),
    ("ppo", "MinAtar/Breakout-v1", {}, "", "gpu=auto"), ("dqn", "ale_py:ALE/Pong-v5", {}, "", "gpu=auto"),
    ("dqn", "ALE/Pong-v5", {"device": "cpu"}, "", ""), ("dqn", "ALE/Pong-v5", {}, "gpu=0", "gpu=0"),
    ("td7", "HalfCheetah-v5", {}, "", "gpu=auto"), ("td7", "HalfCheetah-v5", {"device": "cpu"}, "", ""),
    ("sac", "HalfCheetah-v5", {"device": "cpu"}, "", ""), ("crossq", "HalfCheetah-v5", {}, "gpu=0", "gpu=0"),
])
def test_a_gpu_is_asked_for_where_it_pays(
    algo: str, env: str, settings: dict[str, ParamValue], given: str, expected: str
) -> None:
    for search in (False, True):
        assert resources_of(training_space(algo, env, 1_000, settings, search=search), given) == expected


@pytest.mark.parametrize("algo", ["sac", "crossq", "td7"])
def test_a_few_runs_ask_for_a_gpu_where_many_are_as_quick_on_cores(algo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def machine(cpus: int, num_gpus: int) -> None:
        gpus = tuple(Gpu(i, str(i), "GPU", 2**36, 2**36) for i in range(num_gpus))
        monkeypatch.setattr(Inventory, "detect", lambda: Inventory(cpus, 2**34, 2**34, gpus))

    space, most = training_space(algo, "HalfCheetah-v5", 1_000, {}), {"sac": 3, "crossq": 1, "td7": 6}[algo]
    for num_gpus in (0, 1, 2):
        machine(16, num_gpus)
        at_once = (1, most * max(1, num_gpus), most * max(1, num_gpus) + 1)
        assert [resources_of(space, "", at_once=n) for n in at_once] == ["gpu=auto", "gpu=auto", ""]
    machine(1, 1)
    assert resources_of(space, "", at_once=100) == "gpu=auto"


def test_where_it_learns(one_thread: None) -> None:
    assert learning_device("auto", "cuda", 1, is_image=False).type == "cpu"
    assert learning_device("auto", "cpu", 1, is_image=True).type == "cpu"
    assert learning_device("cpu", "cuda", 1, is_image=True).type == "cpu"


@pytest.mark.parametrize(("wanted", "given"), [("cuda", "cpu"), ("auto", "cuda")])
def test_a_gpu_that_is_not_there_is_told(wanted: str, given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="There is no GPU to learn on"):
        learning_device(wanted, given, 1, is_image=True)


def test_a_stream_goes_on_and_that_of_another_kind_of_device_begins_anew() -> None:
    there = torch.Generator().manual_seed(7)
    torch.rand(3, generator=there)
    state, here = there.get_state(), torch.Generator()
    resume_draws(here, state)
    assert torch.equal(torch.rand(5, generator=here), torch.rand(5, generator=there))
    of_a_gpu = [torch.tensor([7, *[0] * 14, offset], dtype=torch.uint8) for offset in (3, 3, 4)]
    firsts = []
    for foreign in of_a_gpu:
        resume_draws(here, foreign)
        firsts.append(float(torch.rand(1, generator=here)))
    assert firsts[0] == firsts[1] != firsts[2]
