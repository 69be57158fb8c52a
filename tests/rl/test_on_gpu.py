"""Every algorithm on a GPU: it learns, resumes, says what is not finite, and its policy plays alike on a CPU."""

from __future__ import annotations

from functools import partial
from itertools import starmap
from typing import Any

import numpy as np
import pytest
import torch

from tests.rl import dqn_runs, test_ppo, test_recurrent, test_sac, test_td7
from tests.rl.runs import FakeTrial, check_resumes, params
from tests.support.gpus import needs_gpu
from velodrome.envs.adapter import make_envs
from velodrome.envs.simulators.probes import PROBES
from velodrome.errors import Diverged
from velodrome.rl.agent import restore, snapshot
from velodrome.rl.algorithms import learning_of, read_params
from velodrome.rl.evaluate import evaluate
from velodrome.rl.training import train
from velodrome.types import ParamValue

pytestmark = needs_gpu

GPU: dict[str, ParamValue] = {"device": "cuda"}
MASKED = "velodrome/ProbeMask-v0"
SMALL: dict[str, tuple[str, str, dict[str, ParamValue]]] = {
    "ppo": ("ppo", "CartPole-v1", {**test_ppo.SMALL, "normalize_obs": True, "normalize_reward": True}),
    "ppo, masks": ("ppo", MASKED, test_ppo.SMALL),
    "ppo, memory": ("ppo", "velodrome/ProbeMaskMemory-v0", test_recurrent.SMALL),
    "ppo, continuous": ("ppo", "Pendulum-v1", test_ppo.SMALL),
    "ppo, images": ("ppo", "MinAtar/Breakout-v1", {**test_ppo.SMALL, "precision": "float32"}),
    "ppo, images in bfloat16": ("ppo", "MinAtar/Breakout-v1", {**test_ppo.SMALL, "precision": "bfloat16"}),
    "dqn": ("dqn", MASKED, dqn_runs.SMALL),
    "dqn, rainbow": ("dqn", "CartPole-v1", {**dqn_runs.SMALL, **dqn_runs.RAINBOW}),
    "dqn, quantile": ("dqn", "CartPole-v1", {**dqn_runs.SMALL, **dqn_runs.QUANTILE}),
    "dqn, images": ("dqn", "MinAtar/Breakout-v1", {**dqn_runs.SMALL, "precision": "float32"}),
    "sac": ("sac", "Pendulum-v1", test_sac.SMALL),
    "crossq": ("crossq", "Pendulum-v1", {**test_sac.SMALL, "critic_width": 16}),
    "td7": ("td7", "Pendulum-v1", test_td7.SMALL),
}
every_kind = pytest.mark.parametrize("kind", SMALL)


def learning_for(algo: str, envs: Any, given: dict[str, ParamValue], steps: int) -> Any:
    _, config = read_params({"algo": algo, "env": "", "steps": steps, **given, **GPU})
    return learning_of(algo)(envs, config, steps=steps, seed=1, device="cuda")


@pytest.mark.parametrize(("algo", "name", "steps", "given"), [
    ("ppo", "ProbeContext-v0", 12_000, test_ppo.QUICK), ("ppo", "ProbeMask-v0", 12_000, test_ppo.QUICK),
    ("ppo", "ProbeContinuous-v0", 40_000, {**test_ppo.QUICK, "log_std_init": -0.5}),
    ("ppo", "ProbeMaskMemory-v0", 16_000, {**test_recurrent.QUICK, "memory": "lstm"}),
    ("dqn", "ProbeContext-v0", 4_000, {**dqn_runs.QUICK, "gamma": 0.8, "anneal_lr": True}),
    ("dqn", "ProbeMask-v0", 4_000, {**dqn_runs.QUICK, **dqn_runs.RAINBOW, "gamma": 0.8, "anneal_lr": True}),
    ("sac", "ProbeContinuous-v0", 6_000, test_sac.QUICK),
    ("crossq", "ProbeContinuous-v0", 6_000, {**test_sac.QUICK, **test_sac.OF_ALGO["crossq"]}),
    ("td7", "ProbeContinuous-v0", 5_000, test_td7.QUICK),
])
def test_a_probe_is_played_as_well_as_can_be(algo: str, name: str, steps: int, given: dict[str, ParamValue]) -> None:
    probe, env = PROBES[name], f"velodrome/{name}"
    with make_envs(env, int(given["num_envs"])) as envs, make_envs(env, 20) as arena:
        learning = learning_for(algo, envs, given, steps)
        assert next(learning.policy.parameters()).device.type == "cuda"
        while not learning.is_done:
            learning.update()
        assert all(part.is_cuda for part in learning.policy.parameters())
        flawed = probe.flawed_return if probe.flawed_return is not None else 0.0
        reached = evaluate(learning.policy, arena, episodes=60, seed=9).mean
        assert reached > probe.optimal_return - 0.1 * (probe.optimal_return - flawed)


@every_kind
def test_a_resumed_run_is_bit_for_bit_the_undisturbed_one(kind: str) -> None:
    algo, env, given = SMALL[kind]
    settings = {**given, **GPU, "eval_episodes": 2, "checkpoint_s": 0.0}
    check_resumes(params(env, 640, settings, algo), stops=(0, 2), device="cuda")


@every_kind
def test_what_is_not_finite_is_named(kind: str) -> None:
    algo, env, given = SMALL[kind]
    with make_envs(env, 4) as envs:
        learning = learning_for(algo, envs, given, 10_000)
        for _ in range(3):
            learning.update()
        is_ppo = algo == "ppo"
        names = dict(learning.policy.named_parameters())
        weights = [names[name] for name in names if "critic" in name] or list(names.values())
        with torch.no_grad():
            weights[0][(0,) * weights[0].ndim] = torch.nan
        learn = learning.update
        if not is_ppo:
            learn = partial(learning.learner.update, learning.buffer.sample(16, np.random.default_rng(1), gamma=0.9))
        with pytest.raises(Diverged, match=r"NaN|nan|finite"):
            list(starmap(learn, [()] * 3))


@pytest.mark.parametrize("kind", [kind for kind, (algo, *_) in SMALL.items() if algo != "ppo"])
def test_recorded_steps_change_what_steps_change(kind: str) -> None:
    algo, env, given = SMALL[kind]
    with make_envs(env, 4) as envs, make_envs(env, 4) as others:
        run, plain = (learning_for(algo, each, given, 10_000) for each in (envs, others))
        plain.learner._steps.recordings = None
        draws = np.random.default_rng(1), np.random.default_rng(1)
        for each in (run, plain):
            while each.steps_done < 128:
                each._note(each._act(), each.envs.receive())
        for _ in range(12):
            figures = [
                each.learner.update(each.buffer.sample(16, draw, gamma=0.9), torch.ones(16, device="cuda"))[0]
                for each, draw in zip((run, plain), draws, strict=True)
            ]
            np.testing.assert_allclose(*figures, rtol=1e-3, atol=1e-4)
        assert len(run.learner._steps.recordings) == (2 if algo in ("crossq", "td7") else 1)
        torch.testing.assert_close(snapshot(run.learner.policy), snapshot(plain.learner.policy), rtol=1e-3, atol=1e-4)


@every_kind
def test_its_policy_plays_on_a_cpu_as_it_does_there(kind: str) -> None:
    algo, env, given = SMALL[kind]
    if "images" in kind or algo in ("sac", "crossq", "td7"):
        given = {**given, "precision": "float32"}  # what is rounded may be rounded otherwise
    with make_envs(env, 4) as envs, make_envs(env, 4) as others:
        learning = learning_for(algo, envs, given, 10_000)
        for _ in range(3):
            learning.update()
        _, config = read_params({"algo": algo, "env": env, "steps": 10_000, **given, "device": "cpu"})
        on_cpu = learning_of(algo)(others, config, steps=10_000, seed=2, device="cpu").policy.eval()
        there = learning.policy.eval()
        restore(on_cpu, snapshot(there))
        players = there.player(4), on_cpu.player(4)
        obs = others.reset(5)
        for _ in range(20):
            actions = [player.act(obs, others.action_mask) for player in players]
            np.testing.assert_allclose(*actions, atol=1e-4)
            step = others.step(actions[0])
            for player in players:
                player.end(step.terminated | step.truncated | ~step.valid)
            obs = step.obs


@pytest.mark.parametrize(("kind", "expected"), [
    ("ppo, images", "cuda"), ("dqn, images", "cuda"), ("td7", "cuda"), ("sac", "cuda"), ("ppo", "cpu"), ("dqn", "cpu"),
])
def test_a_gpu_is_taken_without_a_word_where_it_pays(kind: str, expected: str) -> None:
    algo, env, given = SMALL[kind]
    _, config = read_params({"algo": algo, "env": env, "steps": 100, **given})
    with make_envs(env, 4) as envs:
        learning = learning_of(algo)(envs, config, steps=100, seed=1, device="cuda")
        assert next(learning.policy.parameters()).device.type == expected
        learning.update()


@pytest.mark.parametrize("kind", ["ppo, images", "dqn, images"])
def test_a_checkpoint_of_a_gpu_goes_on_on_a_cpu(kind: str) -> None:
    algo, env, given = SMALL[kind]
    settings = {**given, "eval_episodes": 2, "checkpoint_s": 0.0}
    cut = FakeTrial(params(env, 640, settings, algo), stop_at=2, device="cuda")
    with pytest.raises(KeyboardInterrupt):
        train(cut)
    again = FakeTrial(cut.params, saved=cut.saved, device="cpu")
    assert train(again)["steps"] == 640
