"""The probes: the best policy earns what they say, and the flawed one what they say is left."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from velodrome.envs.simulators.catalogue import CATALOGUE
from velodrome.envs.simulators.probes import PROBES
from velodrome.envs.simulators.vector_env import SimVectorEnv

N = 600
Policy = Callable[[np.ndarray, np.ndarray | None, np.ndarray], np.ndarray]  # obs, mask, first obs of the episode


def always(action: int) -> Policy:
    return lambda obs, mask, first: np.full(len(obs), action)


def of_obs(obs: np.ndarray, mask: Any, first: np.ndarray) -> np.ndarray:
    return (obs[:, 0] > 0).astype(int)


def of_first(obs: np.ndarray, mask: Any, first: np.ndarray) -> np.ndarray:
    return (first[:, 0] > 0).astype(int)


def lowest_allowed(obs: np.ndarray, mask: np.ndarray, first: np.ndarray) -> np.ndarray:
    return mask.argmax(1)


def remembered_order(obs: np.ndarray, mask: np.ndarray, first: np.ndarray) -> np.ndarray:
    return np.where(first[:, 0] > 0, mask.argmax(1), 3 - mask[:, ::-1].argmax(1))


def unmasked_order(obs: np.ndarray, mask: np.ndarray, first: np.ndarray) -> np.ndarray:
    return np.where(first[:, 0] > 0, 0, 3)


BEST: dict[str, Policy] = {
    "ProbeValue-v0": always(0), "ProbeObservation-v0": always(0), "ProbeDiscount-v0": always(0),
    "ProbeAction-v0": always(1), "ProbeContext-v0": of_obs, "ProbeCredit-v0": always(1),
    "ProbeTruncation-v0": always(0),
    "ProbeMemory-v0": of_first, "ProbeMask-v0": lowest_allowed, "ProbeMaskMemory-v0": remembered_order,
    "ProbeContinuous-v0": lambda obs, mask, first: obs,
}
FLAWED: dict[str, Policy] = {
    "ProbeAction-v0": always(0), "ProbeContext-v0": always(1), "ProbeMemory-v0": of_obs, "ProbeMask-v0": always(0),
    "ProbeMaskMemory-v0": unmasked_order,
    "ProbeCredit-v0": lambda obs, mask, first: np.arange(len(obs)) % 2,
    "ProbeContinuous-v0": lambda obs, mask, first: np.zeros_like(obs),
}


def play(name: str, policy: Policy) -> tuple[list[float], list[list[tuple[np.ndarray, float, bool]]]]:
    """Returns of N episodes, and of each its observations, rewards and whether a step terminated."""
    env = SimVectorEnv(name, N)
    obs, infos = env.reset(seed=0)
    first, running = obs.copy(), np.ones(N, bool)
    returns, steps = np.zeros(N), [[] for _ in range(N)]
    while running.any():
        nxt, reward, terminated, truncated, infos_next = env.step(policy(obs, infos.get("action_mask"), first))
        for i in np.flatnonzero(running):
            steps[i].append((obs[i], reward[i], bool(terminated[i])))
        returns += reward * running
        running &= ~(terminated | truncated)
        obs, infos = nxt, infos_next
    return returns.tolist(), steps


def test_every_probe_is_registered_and_explained() -> None:
    assert set(PROBES) == {name for name in CATALOGUE if name.startswith("Probe")} == set(BEST)
    assert {name for name, probe in PROBES.items() if probe.flawed_return is not None} == set(FLAWED)
    assert len({probe.catches for probe in PROBES.values()}) == len(PROBES)


@pytest.mark.parametrize("name", PROBES)
def test_the_best_policy_earns_the_optimal_return(name: str) -> None:
    returns, _ = play(name, BEST[name])
    if name == "ProbeObservation-v0":  # nothing to decide: plus or minus 1
        assert set(returns) == {-1.0, 1.0}
        assert abs(np.mean(returns)) < 0.15
    else:
        np.testing.assert_allclose(returns, PROBES[name].optimal_return, atol=1e-12)


@pytest.mark.parametrize("name", FLAWED)
def test_the_flawed_policy_earns_less(name: str) -> None:
    returns, _ = play(name, FLAWED[name])
    assert np.mean(returns) == pytest.approx(PROBES[name].flawed_return, abs=4 * np.std(returns) / np.sqrt(N) + 1e-12)
    assert PROBES[name].flawed_return < PROBES[name].optimal_return


@pytest.mark.parametrize("name", [name for name, probe in PROBES.items() if probe.value is not None])
def test_the_stated_value_is_the_discounted_sum(name: str) -> None:
    gamma, value = 0.9, PROBES[name].value
    assert value is not None
    _, episodes = play(name, BEST[name])
    for episode in episodes[:50]:
        after = 0.0 if episode[-1][2] else value(episode[-1][0], gamma)  # a truncated episode goes on
        for obs, reward, _ in reversed(episode):
            after = reward + gamma * after
            assert value(obs, gamma) == pytest.approx(after, abs=1e-6)


def test_no_constant_policy_does_better_with_masks_unseen() -> None:
    means = [np.mean(play("ProbeMask-v0", always(action))[0]) for action in range(4)]
    assert max(means) < 1.0


def test_masks_without_memory_are_not_enough() -> None:
    returns, _ = play("ProbeMaskMemory-v0", lowest_allowed)
    assert np.mean(returns) == pytest.approx(0.0, abs=4 / np.sqrt(N))
