"""Recorded steps: what they change is what steps change, whatever replays them. ``test_on_gpu`` has the graphs."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Generator, Tensor, nn

from tests.rl import dqn_runs, test_ppo, test_sac, test_td7
from velodrome.envs.adapter import make_envs
from velodrome.errors import Diverged
from velodrome.rl import recorded
from velodrome.rl.agent import snapshot
from velodrome.rl.algorithms import learning_of, read_params
from velodrome.rl.flat import FlatAdam
from velodrome.rl.recorded import Recordings
from velodrome.types import ParamValue

KINDS: dict[str, tuple[str, str, dict[str, ParamValue]]] = {
    "ppo": ("ppo", "CartPole-v1", {**test_ppo.SMALL, "normalize_obs": True, "anneal_lr": True}),
    "ppo, continuous": ("ppo", "Pendulum-v1", test_ppo.SMALL),
    "ppo, masks": ("ppo", "velodrome/ProbeMask-v0", test_ppo.SMALL),
    "ppo, images": ("ppo", "MinAtar/Breakout-v1", {**test_ppo.SMALL, "precision": "float32"}),
    "dqn": ("dqn", "velodrome/ProbeMask-v0", {**dqn_runs.SMALL, "target_every": 3}),
    "dqn, rainbow": ("dqn", "CartPole-v1", {**dqn_runs.SMALL, **dqn_runs.RAINBOW}),
    "dqn, quantile": ("dqn", "CartPole-v1", {**dqn_runs.SMALL, **dqn_runs.QUANTILE, "anneal_lr": True}),
    "sac": ("sac", "Pendulum-v1", {**test_sac.SMALL, "anneal_lr": True, "normalize_obs": True}),
    "crossq": ("crossq", "Pendulum-v1", {**test_sac.SMALL, "critic_width": 16}),
    "td7": ("td7", "Pendulum-v1", {**test_td7.SMALL, "target_every": 3}),
}
every_kind = pytest.mark.parametrize("kind", KINDS)
with_a_buffer = pytest.mark.parametrize("kind", [kind for kind in KINDS if not kind.startswith("ppo")])


def begun(kind: str, envs: Any) -> Any:
    """A run whose next step may learn."""
    algo, env, given = KINDS[kind]
    _, config = read_params({"algo": algo, "env": env, "steps": 2_000, **given})
    run: Any = learning_of(algo)(envs, config, steps=2_000, seed=1)
    while algo != "ppo" and run.steps_done < config.learning_starts:
        run._note(run._act(), envs.receive())
    return run


class ByHand:
    """What ``capture`` does, without a GPU: a replay works again, and puts results where the first ones are."""

    def __init__(self, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.num_recorded = 0
        learner, cpu = run.learner, torch.device("cpu")
        learner._steps.recordings = self.steps = Recordings(cpu, save=learner.state, load=learner.load)
        actor = getattr(run, "actor", run)
        actor._forward._recordings = self.forward = Recordings(cpu)
        monkeypatch.setattr(recorded, "capture", self.capture)

    def capture(
        self, work: Callable[[], recorded.Results], generators: Sequence[Generator], undo: Callable[[], None]
    ) -> tuple[Callable[[], None], recorded.Results]:
        self.num_recorded += 1
        results = work()
        undo()

        def replay() -> None:
            for kept, again in zip(results, work(), strict=True):
                if kept is not None:
                    kept.copy_(again)
        return replay, results


@every_kind
def test_what_is_recorded_does_what_is_not(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with make_envs(KINDS[kind][1], 4) as envs, make_envs(KINDS[kind][1], 4) as others:
        run, plain = begun(kind, envs), begun(kind, others)
        hand = ByHand(run, monkeypatch)
        for _ in range(2 if kind.startswith("ppo") else 1):  # with a rate that falls
            figures = [each.update() for each in (run, plain)]
            assert figures[0] == pytest.approx(figures[1], rel=1e-3, abs=1e-4)
        assert len(hand.steps) == (2 if kind in ("crossq", "td7") else 1)  # with and without the policy's step
        assert len(hand.forward) == 1
        states = snapshot(run.learner.policy), snapshot(plain.learner.policy)
        torch.testing.assert_close(*states, rtol=1e-3, atol=1e-4)
        if getattr(run, "priorities", None) is not None:
            torch.testing.assert_close(run.priorities.state(), plain.priorities.state(), rtol=1e-2, atol=1e-3)


def memory_of(part: Any, name: str = "", seen: set[int] | None = None) -> dict[str, int]:
    """Where all tensors are that an object holds, by name; but for what a step does not read."""
    seen = set() if seen is None else seen
    if isinstance(part, Tensor):
        return {name: part.data_ptr()}
    if id(part) in seen or name.endswith(("_steps", "exploration", "policy.noise", "paces", "_layers")):
        return {}
    seen.add(id(part))
    if isinstance(part, dict):
        inside = dict(part)
    elif isinstance(part, list | tuple):
        inside = dict(enumerate(part))
    else:
        is_ours = type(part).__module__.startswith(("velodrome.rl", "torch.nn"))
        inside = getattr(part, "__dict__", {}) if is_ours else {}
    return {key: where for child, value in inside.items()
            for key, where in memory_of(value, f"{name}.{child}", seen).items()}


@every_kind
def test_all_that_a_step_reads_stays_where_it_is(kind: str) -> None:
    """Whatever is done between two steps: a graph knows places."""
    with make_envs(KINDS[kind][1], 4) as envs:
        run = begun(kind, envs)
        run.update()
        before = memory_of(run.learner)
        assert len(before) >= 8
        run.update()
        run.learner.load(copy.deepcopy(run.learner.state()))
        run.learner.soften(1)
        run.update()
        assert memory_of(run.learner) == before


@with_a_buffer
def test_recording_changes_nothing(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with make_envs(KINDS[kind][1], 4) as envs:
        run = begun(kind, envs)
        run._learn()
        hand, before = ByHand(run, monkeypatch), run.learner.state()
        again = hand.capture
        monkeypatch.setattr(recorded, "capture", lambda *how: (lambda: None, again(*how)[1]))  # no replay
        batch = run.buffer.sample(16, np.random.default_rng(1), gamma=0.9).seen_by(run.policy.sight)
        run.learner._steps(batch, torch.ones(16), *[True] * (not kind.startswith("dqn")))
        assert hand.num_recorded == 1
        after = run.learner.state()
        assert after.pop("precision") == before.pop("precision")
        torch.testing.assert_close(after, before, rtol=0.0, atol=0.0)
        assert all(adam.checks for adam in run.learner._steps._adams)


@with_a_buffer
def test_what_is_not_finite_is_named_and_changes_no_weight(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with make_envs(KINDS[kind][1], 4) as envs:
        run = begun(kind, envs)
        ByHand(run, monkeypatch)
        run._learn()
        learner = run.learner
        batch = run.buffer.sample(16, np.random.default_rng(1), gamma=0.9)
        good = learner.state()
        reward = batch.reward.clone()
        reward[3] = math.nan
        with pytest.raises(Diverged, match=r"rewards: nan in update 2$"):
            learner.update(batch._replace(reward=reward), torch.ones(16))
        assert not all(torch.isfinite(adam.norm) for adam in learner._steps._adams)
        step = "network" if kind.startswith("dqn") else "critics"
        assert torch.equal(learner.state()[step]["weights"], good[step]["weights"])
        # A rollback goes on from there, whichever optimiser it was that had no finite gradient.
        for adam in learner._steps._adams:
            adam.norm.fill_(math.nan)
        learner.load(good)
        for _ in range(3):
            learner.update(batch, torch.ones(16))


def test_ppo_names_what_is_not_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    with make_envs("CartPole-v1", 4) as envs:
        run = begun("ppo", envs)
        ByHand(run, monkeypatch)
        run.update()
        with torch.no_grad():
            run.policy.critic.weights[0][0, 0] = math.nan
        with pytest.raises(Diverged, match="advantages: nan in update 2"):
            run.update()


def test_there_are_recordings_for_a_few_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    with make_envs("Pendulum-v1", 4) as envs:
        run = begun("sac", envs)
        hand = ByHand(run, monkeypatch)
        for size in (16, 8, 16, 12, 4, 6, 2, 6, 16):  # the last shapes are too many
            figures, _ = run.learner.update(run.buffer.sample(size, np.random.default_rng(1), gamma=0.9))
            assert all(map(math.isfinite, figures))
        assert hand.num_recorded == len(hand.steps) == 4


@pytest.mark.parametrize("max_norm", [0.0, 0.5, 1e6])
def test_a_step_that_does_not_check_is_the_one_that_does(max_norm: float) -> None:
    def losses(checks: bool) -> Tensor:
        module = nn.Linear(3, 2)
        with torch.no_grad():
            for part in module.parameters():
                part.copy_(torch.linspace(-1.0, 1.0, part.numel()).view(part.shape))
        adam = FlatAdam(module, 0.1, max_norm)
        adam.checks = checks
        for i in range(4):
            adam.lr_scale = 0.5**i
            adam.send_learning_rate()
            assert adam.descend(module(torch.ones(3)).square().sum())
        return adam.weights.detach()

    torch.testing.assert_close(losses(True), losses(False), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_nothing_changes_where_a_gradient_is_not_finite(bad: float) -> None:
    module = nn.Linear(3, 2)
    adam = FlatAdam(module, 0.1, 0.5)
    adam.send_learning_rate()
    adam.descend(module(torch.ones(3)).square().sum())
    before = adam.state()
    adam.checks = False
    assert adam.descend(module(torch.tensor([1.0, bad, 1.0])).square().sum())
    assert not torch.isfinite(adam.norm)
    torch.testing.assert_close(adam.state(), before, rtol=0.0, atol=0.0)
    adam.checks = True
    assert not adam.descend(module(torch.tensor([1.0, bad, 1.0])).square().sum())
    torch.testing.assert_close(adam.state(), before, rtol=0.0, atol=0.0)
