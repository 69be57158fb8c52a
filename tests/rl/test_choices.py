"""What a training run chose by itself is said, with the reason, and whether it was given."""

from __future__ import annotations

import pytest

from tests.rl.runs import FakeTrial, params
from velodrome.rl.training import train


def test_a_run_says_where_and_how_it_learns() -> None:
    trial = FakeTrial(params("CartPole-v1", 64, {"num_envs": 2, "num_steps": 16, "eval_episodes": 1}))
    train(trial)
    assert trial.notes == {
        "device": ("cpu: for vectors a GPU gains too little", "ppo"),
        "threads": ("1: a small network is quickest on one", "ppo"),
        "environments": ("2 simulated in this process: the quickest way here", "ppo"),
    }


def test_what_was_given_is_called_so() -> None:
    given = {"num_envs": 2, "num_steps": 16, "eval_episodes": 1, "device": "cpu", "threads": 1, "mode": "sync"}
    trial = FakeTrial(params("CartPole-v1", 64, given))
    train(trial)
    assert trial.notes == {
        "device": ("cpu: as given", "ppo"), "threads": ("1: as given", "ppo"),
        "environments": ("2 in this process: as given", "ppo"),
    }


def test_what_critics_multiply_in_is_said() -> None:
    given = {"learning_starts": 16, "batch_size": 16, "width": 64, "eval_episodes": 1}
    for precision, expected in (
        ("auto", "float32: the quicker one on this device"), ("float32", "float32: as given"),
        ("bfloat16", "bfloat16: as given"),
    ):
        trial = FakeTrial(params("Pendulum-v1", 40, {**given, "precision": precision}, algo="sac"))
        train(trial)
        assert trial.notes["precision"] == (expected, "sac")


def test_large_networks_learn_where_the_trial_is() -> None:
    given = {"learning_starts": 16, "batch_size": 16, "width": 16, "embedding": 8, "eval_episodes": 1}
    trial = FakeTrial(params("Pendulum-v1", 40, given, algo="td7"))
    train(trial)
    assert trial.notes["device"] == ("cpu: that of the trial, for large networks and batches", "td7")


def test_two_threads_are_said_where_there_are_two() -> None:
    given = {"num_envs": 16, "num_steps": 64, "minibatches": 2, "epochs": 1, "eval_episodes": 1, "threads": 2}
    trial = FakeTrial(params("CartPole-v1", 1_024, given))
    train(trial)
    assert trial.notes["threads"] == ("2, policy and value on one each: as given", "ppo")


def test_a_run_that_is_preempted_makes_a_checkpoint_at_its_next_update(monkeypatch: pytest.MonkeyPatch) -> None:
    trial = FakeTrial(params("CartPole-v1", 96, {
        "num_envs": 2, "num_steps": 16, "eval_episodes": 1, "checkpoint_s": 1000.0,
    }))
    saved: list[int] = []
    monkeypatch.setattr(trial, "checkpoint", lambda step, _state: saved.append(step))
    train(trial)
    assert saved == [96]
    saved.clear()
    trial.preempted = trial.should_stop = True
    train(trial)
    assert saved == [32, 64, 96]
