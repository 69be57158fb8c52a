"""Settings that solve known environments, by the environment's id. ``docs/benchmarks.md`` has what they reached.

The studies that they come from are in ``benchmarks/presets``.
"""

from __future__ import annotations

from velodrome.types import ParamValue

_BREAKOUT: dict[str, ParamValue] = {
    "num_envs": 64, "num_steps": 64, "epochs": 4, "minibatches": 16, "lr": 4.74e-3, "gamma": 0.98,
    "entropy_coef": 7.43e-3, "network": "cnn",
}
_ASTERIX: dict[str, ParamValue] = {
    "num_envs": 64, "num_steps": 128, "epochs": 2, "minibatches": 16, "lr": 1.68e-3, "gae_lambda": 0.9,
    "entropy_coef": 0.0186, "network": "cnn",
}

PRESETS: dict[str, dict[str, dict[str, ParamValue]]] = {
    "ppo": {
        "CartPole-v1": {
            "num_envs": 16, "num_steps": 32, "epochs": 8, "minibatches": 8, "lr": 2.08e-3, "gamma": 0.99,
            "gae_lambda": 0.8,
        },
        "CartPoleNoVelocity-v1": {
            "num_envs": 32, "num_steps": 64, "epochs": 8, "minibatches": 4, "lr": 2e-3, "gamma": 0.98,
            "gae_lambda": 0.9, "memory": "lstm", "normalize_obs": True, "normalize_reward": True,
        },
        "Acrobot-v1": {
            "num_envs": 32, "num_steps": 32, "epochs": 8, "minibatches": 4, "lr": 2e-3, "entropy_coef": 0.01,
            "normalize_obs": True, "normalize_reward": True,
        },
        "MountainCar-v0": {
            "num_envs": 16, "num_steps": 32, "epochs": 16, "minibatches": 4, "lr": 3.1e-3, "gamma": 0.995,
            "gae_lambda": 0.95, "entropy_coef": 4.4e-3, "normalize_obs": True, "normalize_reward": True,
        },
        "Pendulum-v1": {
            "num_envs": 8, "num_steps": 512, "epochs": 10, "minibatches": 64, "lr": 2.66e-3, "gamma": 0.95,
            "gae_lambda": 0.9,
        },
        "PendulumNoVelocity-v1": {
            "num_envs": 32, "num_steps": 64, "epochs": 20, "minibatches": 4, "lr": 1.81e-3, "gamma": 0.95,
            "gae_lambda": 0.9, "memory": "lstm", "normalize_reward": True,
        },
        "LunarLander-v3": {
            "num_envs": 16, "num_steps": 256, "epochs": 8, "minibatches": 32, "lr": 1e-3, "gamma": 0.995,
            "entropy_coef": 0.005, "normalize_obs": True, "normalize_reward": True,
        },
        "DoorKey-5x5-v0": {
            "num_envs": 32, "num_steps": 128, "epochs": 12, "minibatches": 8, "lr": 1.86e-3, "gamma": 0.98,
            "entropy_coef": 9.2e-3,
        },
        "FourRooms-v0": {
            "num_envs": 64, "num_steps": 32, "epochs": 8, "minibatches": 4, "lr": 9.62e-4, "gamma": 0.98,
            "gae_lambda": 0.9, "entropy_coef": 0.0241,
        },
        "MinAtar-Breakout-v1": _BREAKOUT,
        "MinAtar-SpaceInvaders-v1": _BREAKOUT,  # the same trial won both studies
        "MinAtar-Asterix-v1": _ASTERIX,
        "MinAtar-Seaquest-v1": _ASTERIX,
        "MinAtar-Freeway-v1": {
            "num_envs": 64, "num_steps": 128, "epochs": 4, "minibatches": 8, "lr": 2.5e-3, "entropy_coef": 0.01,
            "network": "cnn",
        },
    },
    "dqn": {
        "CartPole-v1": {
            "num_envs": 8, "learning_starts": 500, "batch_size": 64, "width": 64, "lr": 1.76e-3, "anneal_lr": True,
            "target_every": 250, "updates_per_step": 0.5, "n_step": 3, "exploration_fraction": 0.225, "eps_end": 0.04,
            "distributional": "categorical", "v_min": 0.0, "v_max": 100.0,
        },
        "Acrobot-v1": {  # RL Baselines3 Zoo's, with four environments, a falling learning rate, distributions
            "num_envs": 4, "buffer_size": 50_000, "learning_starts": 500, "width": 256, "lr": 6.3e-4, "anneal_lr": True,
            "updates_per_step": 1.0, "target_every": 250, "exploration_fraction": 0.12, "eps_end": 0.1,
            "distributional": "categorical", "v_min": -100.0, "v_max": 0.0,
        },
        "MountainCar-v0": {
            "num_envs": 8, "learning_starts": 500, "batch_size": 128, "width": 256, "lr": 1e-3, "anneal_lr": True,
            "updates_per_step": 0.5, "target_every": 250, "n_step": 5, "normalize_obs": True, "random_steps": 20.0,
            "exploration_fraction": 0.3, "eps_end": 0.02,
        },
    },
    "sac": {
        "Pendulum-v1": {
            "width": 64, "lr": 1e-3, "critic_lr": 1e-3, "gamma": 0.98, "tau": 0.01, "learning_starts": 400,
        },
        "MountainCarContinuous-v0": {
            "num_envs": 2, "width": 64, "lr": 1.32e-3, "critic_lr": 1.11e-3, "gamma": 0.99, "tau": 0.02, "n_step": 5,
            "learning_starts": 1_000, "updates_per_step": 0.5, "noise_memory": 0.9,
        },
    },
    "td7": {
        "Pendulum-v1": {
            "learning_starts": 500, "batch_size": 256, "width": 64, "embedding": 32, "lr": 5.48e-4,
            "critic_lr": 1.35e-3, "gamma": 0.95, "target_every": 250,
        },
    },
    "crossq": {
        "HalfCheetah-v5": {"learning_starts": 10_000},  # with fewer random steps some seeds learn to run on their back
    },
}


def preset(algo: str, env: str) -> dict[str, ParamValue]:
    """The settings for an environment; none where there is no preset."""
    name = env.rpartition(":")[2].removeprefix("velodrome/").replace("MinAtar/", "MinAtar-")
    return dict(PRESETS.get(algo, {}).get(name, {}))
