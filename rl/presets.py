"""Settings that solve known environments, by the environment's id. ``docs/train.md`` has what they reached."""

from __future__ import annotations

from velodrome.types import ParamValue

PRESETS: dict[str, dict[str, dict[str, ParamValue]]] = {
    "ppo": {
        "CartPole-v1": {
            "num_envs": 32, "num_steps": 32, "epochs": 8, "minibatches": 4, "lr": 2e-3, "gamma": 0.98,
            "gae_lambda": 0.9,
        },
        "CartPoleNoVelocity-v1": {
            "num_envs": 32, "num_steps": 64, "epochs": 8, "minibatches": 4, "lr": 2e-3, "gamma": 0.98,
            "gae_lambda": 0.9, "memory": "lstm", "normalize_obs": True, "normalize_reward": True,
        },
        "Acrobot-v1": {
            "num_envs": 32, "num_steps": 32, "epochs": 8, "minibatches": 4, "lr": 2e-3, "entropy_coef": 0.01,
            "normalize_obs": True, "normalize_reward": True,
        },
        "Pendulum-v1": {
            "num_envs": 4, "num_steps": 1024, "epochs": 10, "minibatches": 64, "lr": 1e-3, "gamma": 0.9,
            "gae_lambda": 0.95,
        },
        "PendulumNoVelocity-v1": {
            "num_envs": 32, "num_steps": 64, "epochs": 15, "minibatches": 4, "lr": 3e-3, "gamma": 0.9,
            "gae_lambda": 0.95, "memory": "lstm", "normalize_reward": True,
        },
    },
}


def preset(algo: str, env: str) -> dict[str, ParamValue]:
    """The settings for an environment; none where there is no preset."""
    name = env.rpartition(":")[2].removeprefix("velodrome/")
    return dict(PRESETS.get(algo, {}).get(name, {}))
