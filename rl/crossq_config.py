"""The settings of CrossQ. No torch here: the command line reads them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from velodrome.rl.settings import setting
from velodrome.search.domains import Choice, Float, Int

FLAG = Choice(True, False)


@dataclass(frozen=True, slots=True)
class CrossQConfig:
    """CrossQ (Bhatt et al. 2024): SAC without target networks, its critics batch-renormalised and wide.

    For continuous, bounded actions. Learns from fewer environment steps than SAC.
    """

    gpu_pays_for: ClassVar[int] = 2
    """So many runs at once are as quick on a core each as all on one GPU; fewer are slower."""

    num_envs: int = setting(1, "Environments stepped side by side.", Int(1, 65_536))
    buffer_size: int = setting(1_000_000, "Transitions that are kept.", Int(1, 10**9))
    learning_starts: int = setting(1_000, "Steps of random actions before learning begins.", Int(1, 10**9))
    batch_size: int = setting(256, "Transitions in a gradient step.", Int(2, 1_000_000), search=Choice(128, 256))
    updates_per_step: float = setting(1.0, "Gradient steps for each environment step.", Float(1e-4, 1_000.0),
                                      search=Choice(0.5, 1.0, 2.0))
    lr: float = setting(1e-3, "Adam's learning rate, of the policy and the temperature.", Float(0.0, 10.0),
                        search=Float(2e-4, 3e-3, log=True))
    critic_lr: float = setting(1e-3, "Adam's learning rate, of the critics.", Float(0.0, 10.0),
                               search=Float(2e-4, 3e-3, log=True))
    anneal_lr: bool = setting(False, "Lower the learning rates to 0 over the run, in a straight line.", FLAG,
                              search=FLAG)
    beta1: float = setting(0.5, "Adam's first beta.", Float(0.0, 0.9999))
    gamma: float = setting(0.99, "Discount per step.", Float(0.0, 1.0), search=Choice(0.95, 0.98, 0.99, 0.995, 0.999))
    n_step: int = setting(1, "Steps of real rewards before the critics' estimate.", Int(1, 1_000), search=Choice(1, 3))
    policy_every: int = setting(3, "Steps of the critics for each step of the policy.", Int(1, 1_000),
                                search=Choice(1, 2, 3))
    num_critics: int = setting(2, "Critics; the smallest of their values counts.", Int(1, 64))
    alpha: float = setting(0.0, "The temperature, the weight of entropy; 0 to learn it.", Float(0.0, 1e6))
    alpha_init: float = setting(1.0, "Where a learnt temperature starts.", Float(1e-8, 1e6))
    entropy_scale: float = setting(1.0, "The entropy aimed at, in units of minus the number of actions.",
                                   Float(-1e3, 1e3), search=Choice(0.5, 1.0))
    width: int = setting(256, "Units of each hidden layer of the policy.", Int(1, 65_536))
    critic_width: int = setting(256, "Units of each hidden layer of the critics; the paper has 2048.", Int(1, 65_536),
                                search=Choice(256, 512, 1024))
    noise_memory: float = setting(0.0, "How much of the exploration noise lasts to the next step: 0 for fresh noise.",
                                  Float(0.0, 0.9999), search=Choice(0.0, 0.9, 0.98))
    depth: int = setting(2, "Hidden layers of each.", Int(1, 64))
    renorm_warmup: int = setting(100_000, "Gradient steps before the renormalisation's corrections begin.",
                                 Int(0, 10**9))
    max_grad_norm: float = setting(0.0, "Longest gradient; longer ones are scaled down. 0 for no limit.",
                                   Float(0.0, 1e9))
    threads: int = setting(0, "Torch's threads; 0 for one.", Int(0, 1_024))
    precision: str = setting("auto", "What layers multiply in; auto: what is quicker. On a GPU bfloat16 is TF32.",
                             Choice("auto", "float32", "bfloat16"))
    device: str = setting("auto", "auto: the trial's GPU where it has one, otherwise the CPU.",
                          Choice("auto", "cpu", "cuda"))
