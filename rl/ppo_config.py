"""The settings of PPO. No torch here: the command line reads them."""

from __future__ import annotations

from dataclasses import dataclass

from velodrome.rl.settings import setting
from velodrome.search.domains import Choice, Float, Int

FLAG = Choice(True, False)


@dataclass(frozen=True, slots=True)
class PPOConfig:
    """Proximal policy optimisation (Schulman et al. 2017), with the details that Huang et al. (2022) found to matter.

    A rollout is ``num_envs * num_steps`` environment steps; it is learnt from in ``epochs`` passes of ``minibatches``
    gradient steps each.
    """

    num_envs: int = setting(8, "Environments stepped side by side.", Int(1, 65_536), search=Choice(8, 16, 32, 64))
    num_steps: int = setting(128, "Steps of each environment in a rollout.", Int(1, 1_000_000),
                             search=Choice(32, 64, 128, 256))
    epochs: int = setting(4, "Passes over a rollout.", Int(1, 1_000), search=Int(3, 20))
    minibatches: int = setting(4, "Gradient steps in a pass.", Int(1, 1_000_000), search=Choice(2, 4, 8, 16))
    lr: float = setting(3e-4, "Adam's learning rate.", Float(0.0, 10.0), search=Float(1e-4, 5e-3, log=True))
    anneal_lr: bool = setting(True, "Lower the learning rate to 0 over the run, in a straight line.", FLAG)
    adam_eps: float = setting(1e-5, "Adam's epsilon.", Float(0.0, 1.0))
    gamma: float = setting(0.99, "Discount per step.", Float(0.0, 1.0), search=Choice(0.95, 0.98, 0.99, 0.995, 0.999))
    gae_lambda: float = setting(0.95, "GAE's lambda: 0 trusts the value, 1 the rewards.", Float(0.0, 1.0),
                                search=Float(0.8, 1.0))
    clip: float = setting(0.2, "How far the ratio of probabilities counts, either way.", Float(0.0, 10.0),
                          search=Choice(0.1, 0.2, 0.3))
    clip_value: float = setting(0.0, "How far the value may move in an update, either way; 0 for no limit.",
                                Float(0.0, 1e9))
    entropy_coef: float = setting(0.0, "Weight of the entropy bonus.", Float(0.0, 100.0),
                                  search=Float(1e-5, 0.05, log=True))
    value_coef: float = setting(0.5, "Weight of the value loss.", Float(0.0, 1e6))
    max_grad_norm: float = setting(0.5, "Longest gradient; longer ones are scaled down. 0 for no limit.",
                                   Float(0.0, 1e9), search=Choice(0.5, 1.0, 5.0))
    target_kl: float = setting(0.0, "Ends an update when the policy has moved so far (nats); 0 for never.",
                               Float(0.0, 1e3))
    normalize_advantage: bool = setting(True, "Advantages of a minibatch to mean 0 and deviation 1.", FLAG)
    normalize_obs: bool = setting(False, "Observations to mean 0 and deviation 1, by all that were seen.", FLAG)
    normalize_reward: bool = setting(False, "Rewards divided by the deviation of the discounted return.", FLAG)
    network: str = setting("auto", "mlp for vectors, cnn (Nature's) for images, auto for what fits.",
                           Choice("auto", "mlp", "cnn"))
    width: int = setting(64, "Units of each hidden layer of an mlp.", Int(1, 65_536))
    depth: int = setting(2, "Hidden layers of an mlp.", Int(0, 64))
    activation: str = setting("tanh", "After each hidden layer of an mlp.", Choice("tanh", "relu"))
    memory: str = setting("none", "lstm: remember what was seen since the episode began. Minibatches are then of whole"
                          " environments.", Choice("none", "lstm"))
    memory_units: int = setting(64, "Units of the memory.", Int(1, 65_536))
    log_std_init: float = setting(0.0, "Log of the first deviation of continuous actions.", Float(-20.0, 5.0))
    threads: int = setting(0, "Threads; 0 for as many as the trial has. An mlp takes two, from minibatches of 512 on.",
                           Int(0, 1_024))
    precision: str = setting("auto", "What a cnn computes in; auto for the quicker here, as a short trial tells.",
                             Choice("auto", "float32", "bfloat16"))
    device: str = setting("auto", "auto: the trial's GPU for a cnn, otherwise the CPU.", Choice("auto", "cpu", "cuda"))
