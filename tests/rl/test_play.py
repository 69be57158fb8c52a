"""Agents from what training runs kept, and the episodes that they play."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.rl.runs import FakeTrial, needs_bfloat16, params
from velodrome.envs.adapter import make_envs
from velodrome.envs.adapter_errors import EnvError
from velodrome.errors import UsageError
from velodrome.rl import play as playing
from velodrome.rl.evaluate import evaluate
from velodrome.rl.loading import LoadedAgent, load_agent
from velodrome.rl.play import play
from velodrome.rl.training import train

PPO = {"num_envs": 4, "num_steps": 16, "epochs": 1, "minibatches": 2, "eval_episodes": 3, "width": 8, "checkpoint_s": 0}
REPLAY = {"num_envs": 2, "learning_starts": 64, "batch_size": 16, "eval_episodes": 3, "width": 16, "checkpoint_s": 0}
HALF = {**REPLAY, "batch_size": 64, "width": 128, "precision": "bfloat16"}


def run(algo: str, env: str, steps: int, given: dict[str, Any]) -> tuple[FakeTrial, dict[str, float]]:
    trial = FakeTrial(params(env, steps, given, algo))
    return trial, train(trial)


def agent_of(trial: FakeTrial, **options: Any) -> LoadedAgent:
    assert trial.saved is not None
    return load_agent(trial.params, trial.saved[1], **options)


@pytest.fixture(scope="module")
def cart_pole() -> FakeTrial:
    return run("ppo", "CartPole-v1", 320, PPO)[0]


@pytest.mark.parametrize(("algo", "env", "steps", "given"), [
    ("ppo", "CartPole-v1", 1280, {**PPO, "normalize_obs": True}),
    ("ppo", "velodrome/ProbeMaskMemory-v0", 640, {**PPO, "memory": "lstm", "memory_units": 4}),
    ("ppo", "MinAtar/Breakout-v1", 1280, {**PPO, "precision": "float32"}),
    ("dqn", "velodrome/CartPole-v1", 640, REPLAY),
    ("sac", "velodrome/ProbeContinuous-v0", 320, {**REPLAY, "normalize_obs": True}),
    pytest.param("sac", "velodrome/ProbeContinuous-v0", 320, HALF, marks=needs_bfloat16),
    ("crossq", "velodrome/ProbeContinuous-v0", 320, REPLAY),
    ("td7", "velodrome/ProbeContinuous-v0", 320, REPLAY),
    pytest.param("crossq", "velodrome/ProbeContinuous-v0", 320, HALF, marks=needs_bfloat16),
    pytest.param("td7", "velodrome/ProbeContinuous-v0", 320, HALF, marks=needs_bfloat16),
])
def test_an_agent_is_as_good_as_its_run_said(algo: str, env: str, steps: int, given: dict[str, Any]) -> None:
    trial, figures = run(algo, env, steps, given)
    for weights, figure in (("last", "return"), ("best", "best_return")):
        agent = agent_of(trial, weights=weights)
        assert agent.weights == weights
        with make_envs(env, 3) as envs:
            assert evaluate(agent.policy, envs, episodes=3, seed=trial.seed).mean == figures[figure]
    played = play(agent, episodes=2)
    assert played.returns.shape == played.lengths.shape == (2,)
    assert played.frames == []


def test_early_in_a_run_the_last_weights_are_all_there_is() -> None:
    trial, _ = run("ppo", "velodrome/Pendulum-v1", 64, PPO)  # no episode has ended
    agent = agent_of(trial, weights="best")
    assert agent.weights == "last"
    weights = torch.cat([part.flatten() for part in agent.policy.parameters()])
    assert torch.equal(weights.detach(), trial.weights())


def test_a_run_on_a_gpu_can_be_loaded() -> None:
    trial, _ = run("sac", "velodrome/ProbeContinuous-v0", 320, REPLAY)
    assert trial.saved is not None
    trial.saved[1]["learner"]["generator"] = torch.zeros(16, dtype=torch.uint8)  # as CUDA's is
    assert agent_of(trial).weights == "best"
    assert agent_of(trial, weights="last").weights == "last"


def test_loading_leaves_torch_and_stdout_alone(cart_pole: FakeTrial, capsys: pytest.CaptureFixture[str]) -> None:
    torch.set_num_threads(2)
    agent_of(cart_pole)
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)
    assert capsys.readouterr().out == ""


def test_play_is_the_loop_of_its_user(cart_pole: FakeTrial) -> None:
    agent = agent_of(cart_pole)
    played = play(agent, episodes=3, seed=5)
    assert played.returns.tolist() == played.lengths.tolist()  # CartPole's rewards are 1
    env = agent.make_env()
    for i, expected in enumerate(played.returns):
        obs, _ = env.reset(seed=playing.derive(5, "play", i) & 0x7FFF_FFFF)
        agent.reset()
        is_over, length = False, 0
        while not is_over:
            action = agent.act(obs)
            assert action in env.action_space
            obs, _, terminated, truncated, _ = env.step(action)
            is_over, length = terminated or truncated, length + 1
        assert length == expected
    env.close()


def test_episodes_do_not_depend_on_how_many_there_are_or_who_looks(cart_pole: FakeTrial) -> None:
    agent = agent_of(cart_pole)
    first, more, seen = play(agent, seed=3), play(agent, episodes=2, seed=3), play(agent, seed=3, keep_frames=True)
    other = play(agent, episodes=5, seed=4)
    assert first.returns[0] == more.returns[0] == seen.returns[0]
    assert set(other.returns) != set(more.returns)


def test_drawn_actions_come_from_the_seed(cart_pole: FakeTrial) -> None:
    agent = agent_of(cart_pole, deterministic=False)
    drawn = [play(agent, episodes=8, seed=seed).returns.tolist() for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert play(agent_of(cart_pole), episodes=8, seed=1).returns.tolist() != drawn[0]


def test_memory_is_of_one_episode() -> None:
    trial, _ = run("ppo", "velodrome/PendulumNoVelocity-v1", 256, {**PPO, "memory": "lstm", "memory_units": 8})
    agent = agent_of(trial)
    seen = np.random.default_rng(1).normal(size=(5, 2)).astype(np.float32)

    def actions() -> list[float]:
        return [float(agent.act(obs)[0]) for obs in seen]

    first, unforgotten = actions(), actions()
    agent.reset()
    assert actions() == first
    assert unforgotten[0] != first[0]


def test_frames_until_there_are_enough(cart_pole: FakeTrial, tmp_path: Path) -> None:
    agent = agent_of(cart_pole)
    played = play(agent, episodes=2, keep_frames=True, video=tmp_path / "two.gif")
    num_seen = int(played.lengths.sum()) + 2  # the first observations, too
    assert len(played.frames) == played.num_frames == num_seen
    assert played.num_left_out == 0
    assert {frame.shape for frame in played.frames} == {(320, 480, 3)}
    assert not np.array_equal(played.frames[0], played.frames[5])
    assert (tmp_path / "two.gif").stat().st_size > 1000
    few = play(agent, episodes=2, keep_frames=True, max_frames=7)
    assert (len(few.frames), few.num_left_out) == (7, num_seen - 7)
    assert few.returns.tolist() == played.returns.tolist()


def test_an_episode_without_end_is_cut(cart_pole: FakeTrial, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(playing, "_MAX_STEPS", 4)
    played = play(agent_of(cart_pole), episodes=2)
    assert played.returns.tolist() == [4.0, 4.0]
    assert played.lengths.tolist() == [4, 4]


@pytest.mark.parametrize(("wrong", "said"), [
    ({"episodes": 0}, "episodes"), ({"max_frames": 0}, "max_frames"), ({"fps": 0}, "fps"),
    ({"video": "x.avi"}, r"\.mp4, FILE\.gif"), ({"video": "no/such/x.gif"}, "folder"),
])
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any], said: str, cart_pole: FakeTrial) -> None:
    with pytest.raises(UsageError, match=said):
        play(agent_of(cart_pole), **wrong)
    with pytest.raises(UsageError, match="best, last"):
        agent_of(cart_pole, weights="worst")


def test_observations_and_masks_of_another_size(cart_pole: FakeTrial) -> None:
    agent = agent_of(cart_pole)
    with pytest.raises(EnvError, match="shape"):
        agent.act(np.zeros(3, np.float32))
    with pytest.raises(EnvError, match="wrong size"):
        agent.act(np.zeros(4, np.float32), mask=[True, False, True])
    assert agent.act(np.zeros(4, np.float32), mask=[False, True]) == 1
    assert agent.act(np.zeros(4, np.float32), mask=np.array([1, 0])) == 0


def test_probes_have_no_pictures() -> None:
    agent = agent_of(run("ppo", "velodrome/ProbeAction-v0", 64, PPO)[0])
    with pytest.raises(EnvError, match="can't be drawn"):
        play(agent, keep_frames=True)


OWN = """\
import gymnasium as gym
import numpy as np
from gymnasium import spaces

class Own(gym.Env):
    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}
    observation_space = spaces.Dict(place=spaces.Box(-1, 1, (SIZE,), np.float32), kind=spaces.Discrete(3, start=2))
    action_space = spaces.MultiDiscrete([2, 3], start=[0, 5])
    def __init__(self, RENDER_MODE=None):
        self.render_mode = RENDER_MODE
    def look(self):
        return {"place": np.full(SIZE, 0.1, np.float32), "kind": np.int64(3)}
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.lives, self.num_steps = 3, 0
        return self.look(), {"lives": 3}
    def step(self, action):
        assert action == 0 if np.ndim(action) == 0 else self.action_space.contains(action)  # 0: after a lost life
        self.num_steps += 1
        self.lives = 3 - self.num_steps // 4
        return self.look(), 0.5, self.lives == 0, False, {"lives": self.lives}
    def render(self):
        RENDER
"""


def own(folder: Path, *, size: int = 2, render_mode: str = "render_mode", render: str = "return 1 / 0") -> str:
    path = folder / "own.py"
    text = OWN.replace("SIZE", str(size)).replace("RENDER_MODE", render_mode).replace("RENDER", render)
    path.write_text(text)
    return f"{path}:Own"


def test_an_environment_of_ones_own_with_spaces_of_all_kinds(tmp_path: Path) -> None:
    trial, _ = run("ppo", own(tmp_path, render="return np.zeros((9, 7, 3), np.uint8)"), 128, PPO)
    agent = agent_of(trial)
    played = play(agent, episodes=2, keep_frames=True)
    assert played.returns.tolist() == [6.0, 6.0]
    assert played.lengths.tolist() == [12, 12]
    assert played.num_frames == 26
    agent.wrappers = ("episodic_life",)  # cuts each into three, which count as one
    assert play(agent, episodes=2).returns.tolist() == [6.0, 6.0]


def test_an_environment_that_can_not_be_drawn_or_has_changed(tmp_path: Path) -> None:
    trial, _ = run("ppo", own(tmp_path), 128, PPO)
    with pytest.raises(EnvError, match="ZeroDivisionError") as error:
        play(agent_of(trial), keep_frames=True)
    assert error.value.place.startswith(str(tmp_path / "own.py"))
    own(tmp_path, render="return None")
    with pytest.raises(EnvError, match="no frame"):
        play(agent_of(trial), video=tmp_path / "own.gif")
    assert not list(tmp_path.glob("*.gif"))
    own(tmp_path, render_mode="how_to_show")
    with pytest.raises(EnvError, match="let its __init__ take render_mode"):
        play(agent_of(trial), keep_frames=True)
    own(tmp_path, size=4)
    with pytest.raises(UsageError, match="weights can't be loaded"):
        agent_of(trial)
