"""An agent in a file: it acts as it did, needs nothing else for it, and a file that is no agent is told so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Space, Tuple
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tests.rl.runs import params
from velodrome.envs.adapter_errors import EnvError
from velodrome.envs.adapter_spaces import ActionLayout, ObsLayout
from velodrome.envs.layout_json import obs_from_json, obs_to_json
from velodrome.errors import NotFoundError, UsageError
from velodrome.rl import loading
from velodrome.rl.agent_file import load_agent_file
from velodrome.rl.algorithms import policy_of, read_params
from velodrome.rl.loading import LoadedAgent
from velodrome.rl.play import play

TWO = Discrete(2)
VECTOR = Box(-1.0, 1.0, (3,), np.float32)
NESTED = Dict({"a": Discrete(3, start=2), "b": Tuple((Box(0, 9, (2, 2), np.int32), MultiBinary(2))), "c": VECTOR})
IMAGE = Box(0, 255, (36, 36, 2), np.uint8)
SOME_BOX = Box(np.array([-2.0, 0.0], np.float32), np.array([2.0, 5.0], np.float32))
CASES: list[tuple[str, Space[Any], Space[Any], dict[str, Any]]] = [
    ("ppo", VECTOR, Discrete(4, start=1), {"normalize_obs": True}),
    ("ppo", NESTED, MultiDiscrete([2, 3]), {}),
    ("ppo", IMAGE, Discrete(3), {}),
    ("ppo", VECTOR, Box(-np.inf, np.inf, (2,)), {"memory": "lstm", "memory_units": 5}),
    ("ppo", VECTOR, MultiBinary(3), {}),
    ("dqn", VECTOR, Discrete(4), {"noisy": True, "dueling": True, "distributional": "categorical"}),
    ("dqn", VECTOR, Discrete(2), {"distributional": "quantile", "num_atoms": 7}),
    ("sac", VECTOR, SOME_BOX, {"normalize_obs": True}),
    ("crossq", VECTOR, SOME_BOX, {}),
    ("td7", VECTOR, SOME_BOX, {"normalize_obs": True}),
]


def agent_of(
    algo: str = "ppo", obs: Space[Any] = VECTOR, action: Space[Any] = TWO, env: str = "CartPole-v1",
    **settings: Any,
) -> LoadedAgent:
    """An agent that has learnt nothing, but has seen some observations."""
    given = params(env, 100, settings, algo)
    _, config = read_params(given)
    layouts = ObsLayout.of(obs), ActionLayout.of(action)
    policy = policy_of(algo)(config, *layouts, torch.Generator().manual_seed(3))
    policy.sight.learn(np.random.default_rng(1).normal(3.0, 2.0, (20, *layouts[0].shape)))
    return LoadedAgent(policy, *layouts, params=given, env=env, wrappers=(), weights="best", deterministic=True,
                       seed=0, may_run_code=True)


@pytest.mark.parametrize(("algo", "obs", "action", "settings"), CASES, ids=lambda case: str(case)[:30])
@pytest.mark.parametrize("deterministic", [True, False])
def test_it_acts_as_it_did_without_an_environment(
    algo: str, obs: Space[Any], action: Space[Any], settings: dict[str, Any], deterministic: bool, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    agent = agent_of(algo, obs, action, **settings)
    agent.is_deterministic = deterministic
    agent.save(tmp_path / "agent.safetensors")
    monkeypatch.setattr(loading, "make_envs", None)
    again = load_agent_file(tmp_path / "agent.safetensors", deterministic=deterministic)
    obs.seed(1)
    for _ in range(5):
        seen = obs.sample()
        act, expected = again.act(seen), agent.act(seen)
        assert np.array_equal(act, expected)
        assert action.contains(act) or action.contains(np.asarray(act, action.dtype))
    assert (again.params, again.weights, again.env) == (agent.params, "best", "CartPole-v1")


def test_it_is_a_safetensors_file_and_complete(tmp_path: Path) -> None:
    agent_of(normalize_obs=True, width=8).save(tmp_path / "agent.safetensors")
    with safe_open(tmp_path / "agent.safetensors", "pt") as file:
        about = json.loads(file.metadata()["velodrome_agent"])
        names = set(file.keys())
    assert about["version"] == 1
    assert about["params"]["width"] == 8
    assert {"sight.count", "sight.mean", "sight.m2", "policy.head.weights.0"} <= names
    assert [path.name for path in tmp_path.iterdir()] == ["agent.safetensors"], "nothing else is left behind"


def test_layouts_return_whole() -> None:
    layout = ObsLayout.of(NESTED)
    again = obs_from_json(json.loads(json.dumps(obs_to_json(layout))))
    assert again == layout
    row = np.zeros(layout.shape, layout.dtype)
    NESTED.seed(2)
    seen = NESTED.sample()
    again.write(seen, row)
    assert again.unflatten(row)["a"] == seen["a"]
    with pytest.raises(EnvError, match="key of the observation space"):
        obs_to_json(ObsLayout.of(Dict({("a", 1): VECTOR, ("a", 2): VECTOR})))


def test_it_plays_where_it_was_trained_and_elsewhere_if_told(tmp_path: Path) -> None:
    space = gym.make("CartPole-v1").observation_space
    agent = agent_of(obs=space)
    path = tmp_path / "agent.safetensors"
    agent.save(path)
    expected = play(agent, episodes=2, seed=5).returns.tolist()
    assert play(load_agent_file(path), episodes=2, seed=5).returns.tolist() == expected
    assert load_agent_file(path, env="velodrome/CartPole-v1").make_env().spec.id == "velodrome/CartPole-v1"


@pytest.mark.parametrize("env", ["{here}/own.py:Own", "{here}/own.py", "own:Own-v0"])
def test_a_file_from_elsewhere_runs_no_code(env: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own.py").write_text("raise SystemExit('it was run')")
    monkeypatch.syspath_prepend(tmp_path)
    agent_of(env=env.format(here=tmp_path)).save(tmp_path / "agent.safetensors")
    agent = load_agent_file(tmp_path / "agent.safetensors")
    assert agent.act(np.zeros(3, np.float32)) in (0, 1)
    with pytest.raises(EnvError, match=r"names code to make its environment(.|\n)*--env ID"):
        agent.make_env()


def test_a_file_of_which_a_part_is_missing_is_no_agent(tmp_path: Path) -> None:
    path, cut = tmp_path / "agent.safetensors", tmp_path / "cut.safetensors"
    agent_of(normalize_obs=True, width=4).save(path)
    whole = path.read_bytes()
    for length in [0, 1, 7, 8, 9, 100, *range(200, len(whole), len(whole) // 20), len(whole) - 1]:
        cut.write_bytes(whole[:length])
        with pytest.raises(UsageError, match="holds no"):
            load_agent_file(cut)


@pytest.mark.parametrize(("change", "said"), [
    ({"version": 2}, "written by a newer velodrome"),
    ({"version": None}, "holds no whole agent"),
    ({"params": {"algo": "ppo"}}, "holds no whole agent"),
    ({"params": {"algo": "os", "env": "CartPole-v1", "steps": 1}}, "no such algorithm"),
    ({"obs": {"shape": [3], "dtype": "O", "leaves": [], "is_flat": False, "tree": 0}}, "no dtype of numbers"),
    ({"obs": {"shape": [4], "dtype": "<f4", "leaves": [], "is_flat": False, "tree": 0}}, "weights can't be loaded"),
    ({"action": {}}, "holds no whole agent"),
    ({"wrappers": 3}, "holds no whole agent"),
])
def test_a_file_with_something_wrong_in_it_is_told_so(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    path = tmp_path / "agent.safetensors"
    agent_of().save(path)
    with safe_open(path, "pt") as file:
        about = json.loads(file.metadata()["velodrome_agent"])
    save_file(load_file(path), path, {"velodrome_agent": json.dumps({**about, **change})})
    with pytest.raises(UsageError, match=said):
        load_agent_file(path)


def test_a_file_that_asks_for_a_huge_network_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "agent.safetensors"
    agent_of().save(path)
    with safe_open(path, "pt") as file:
        about = json.loads(file.metadata()["velodrome_agent"])
    about["params"] |= {"width": 65_536, "depth": 64}  # 1 TB of weights
    save_file(load_file(path), path, {"velodrome_agent": json.dumps(about)})
    with pytest.raises(UsageError, match=r"weights can't be loaded(.|\n)*velo export STUDY"):
        load_agent_file(path)
    save_file(load_file(path), path, {"velodrome_agent": "[" * 100_000})
    with pytest.raises(UsageError, match="holds no agent"):
        load_agent_file(path)


def test_weights_that_are_missing_or_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "agent.safetensors"
    agent_of().save(path)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    save_file({k: v for k, v in tensors.items() if k != "policy.head.biases.0"}, path, metadata)
    with pytest.raises(UsageError, match=r"weights can't be loaded(.|\n)*head.biases.0"):
        load_agent_file(path)
    save_file(tensors, path)
    with pytest.raises(UsageError, match="holds no agent"):
        load_agent_file(path)
    with pytest.raises(NotFoundError, match="no such file"):
        load_agent_file(tmp_path / "none.safetensors")


def test_where_it_can_t_be_written_the_old_file_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "agent.safetensors"
    agent_of().save(path)
    before = path.read_bytes()
    with pytest.raises(UsageError, match=r"NAME\.safetensors"):
        agent_of().save(tmp_path / "agent.pt")
    with pytest.raises(UsageError, match=r"can't be written(.|\n)*No such file"):
        agent_of().save(tmp_path / "none" / "agent.safetensors")

    def full(_self: Path, _data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UsageError, match=r"can't be written(.|\n)*No space left"):
        agent_of(width=8).save(path)
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["agent.safetensors"]
