"""The settings of DQN. No torch here: the command line reads them."""

from __future__ import annotations

from dataclasses import dataclass

from velodrome.errors import UsageError
from velodrome.rl.settings import setting
from velodrome.search.domains import Choice, Float, Int

FLAG = Choice(True, False)


@dataclass(frozen=True, slots=True)
class DQNConfig:
    """Deep Q-learning (Mnih et al. 2015), and Rainbow's additions (Hessel et al. 2018) by switches.

    For discrete actions. Learns from a replay buffer. Rainbow is ``double``, ``dueling``, ``noisy``, ``prioritized``,
    ``n_step=3`` and ``distributional=categorical``.
    """

    num_envs: int = setting(1, "Environments stepped side by side.", Int(1, 65_536), search=Choice(1, 4, 16))
    buffer_size: int = setting(100_000, "Transitions that are kept.", Int(1, 10**9))
    learning_starts: int = setting(1_000, "Steps of random actions before learning begins.", Int(1, 10**9))
    batch_size: int = setting(128, "Transitions in a gradient step.", Int(1, 1_000_000),
                            search=Choice(32, 64, 128, 256))
    updates_per_step: float = setting(0.25, "Gradient steps for each environment step.", Float(1e-4, 1_000.0),
                                      search=Choice(0.125, 0.25, 0.5, 1.0))
    lr: float = setting(5e-4, "Adam's learning rate.", Float(0.0, 10.0), search=Float(1e-4, 5e-3, log=True))
    anneal_lr: bool = setting(False, "Lower the learning rate to 0 over the run, in a straight line.", FLAG,
                              search=FLAG)
    adam_eps: float = setting(1e-8, "Adam's epsilon.", Float(0.0, 1.0))
    max_grad_norm: float = setting(10.0, "Longest gradient; longer ones are scaled down. 0 for no limit.",
                                   Float(0.0, 1e9))
    gamma: float = setting(0.99, "Discount per step.", Float(0.0, 1.0), search=Choice(0.95, 0.98, 0.99, 0.995, 0.999))
    target_every: int = setting(500, "Environment steps from one copy for the target network to the next.",
                                Int(1, 10**9), search=Choice(10, 100, 250, 500, 1_000))
    tau: float = setting(1.0, "How much of the network a copy takes over: 1 for all; less, with "
                              "target_every=1, for a running mean.", Float(0.0, 1.0))
    eps_start: float = setting(1.0, "The share of random actions at the start of the run.", Float(0.0, 1.0))
    eps_end: float = setting(0.05, "That from the end of exploration on.", Float(0.0, 1.0),
                             search=Choice(0.01, 0.05, 0.1))
    exploration_fraction: float = setting(0.2, "The share of the run in which it falls, in a straight line.",
                                          Float(0.0, 1.0), search=Choice(0.05, 0.1, 0.2, 0.4))
    random_steps: float = setting(1.0, "How many steps a random action lasts, on average; the share stays the same.",
                                  Float(1.0, 1e6))
    n_step: int = setting(1, "Steps of real rewards before the network's estimate.", Int(1, 1_000),
                          search=Choice(1, 3, 5))
    double: bool = setting(True, "The network chooses the action whose value the target network gives.", FLAG,
                           search=FLAG)
    dueling: bool = setting(False, "A state's value and the actions' advantages apart.", FLAG, search=FLAG)
    noisy: bool = setting(False, "Learnt noise in the weights, in place of random actions.", FLAG)
    prioritized: bool = setting(False, "Transitions drawn in proportion to their last error.", FLAG, search=FLAG)
    alpha: float = setting(0.6, "How much the priorities matter: 0 not at all.", Float(0.0, 10.0))
    beta: float = setting(0.4, "How much of their bias is undone at the start; it rises to 1.", Float(0.0, 1.0))
    distributional: str = setting(
        "none", "Learns the distribution of returns: categorical (C51), or quantile (QR-DQN).",
        Choice("none", "categorical", "quantile"), search=Choice("none", "categorical", "quantile"))
    num_atoms: int = setting(51, "Atoms or quantiles of a distribution.", Int(2, 10_000))
    v_min: float = setting(-10.0, "The lowest return that a categorical distribution knows.", Float(-1e9, 1e9))
    v_max: float = setting(10.0, "The highest.", Float(-1e9, 1e9))
    normalize_obs: bool = setting(False, "Observations to mean 0 and deviation 1, by all that were seen.", FLAG)
    network: str = setting("auto", "mlp for vectors, cnn (Nature's) for images, auto for what fits.",
                           Choice("auto", "mlp", "cnn"))
    width: int = setting(128, "Units of each hidden layer of an mlp.", Int(1, 65_536), search=Choice(64, 128, 256))
    depth: int = setting(2, "Hidden layers of an mlp.", Int(0, 64))
    activation: str = setting("relu", "After each hidden layer of an mlp.", Choice("relu", "tanh"))
    precision: str = setting("auto", "What a cnn computes in; auto for the quicker here, as a short trial tells.",
                             Choice("auto", "float32", "bfloat16"))
    threads: int = setting(0, "Torch's threads; 0 for one with an mlp, as many as the trial has with a cnn.",
                           Int(0, 1_024))
    device: str = setting("auto", "auto: the trial's GPU for a cnn, otherwise the CPU.", Choice("auto", "cpu", "cuda"))

    def __post_init__(self) -> None:
        if self.distributional == "categorical" and not self.v_min < self.v_max:
            raise UsageError("A categorical distribution needs a range of returns",
                             given=f"v_min={self.v_min:g}, v_max={self.v_max:g}", allowed="v_min below v_max")
