"""The settings of TD7. No torch here: the command line reads them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from velodrome.rl.settings import setting
from velodrome.search.domains import Choice, Float, Int

FLAG = Choice(True, False)


@dataclass(frozen=True, slots=True)
class TD7Config:
    """TD7 (Fujimoto et al. 2023, "For SALE: state-action representation learning for deep RL").

    For continuous, bounded actions. TD3 with learnt embeddings of states and actions, and prioritised replay.
    """

    gpu_pays_for: ClassVar[int] = 7
    """So many runs at once are as quick on a core each as all on one GPU; fewer are slower."""

    num_envs: int = setting(1, "Environments stepped side by side.", Int(1, 65_536))
    buffer_size: int = setting(1_000_000, "Transitions that are kept.", Int(1, 10**9))
    learning_starts: int = setting(10_000, "Steps of random actions before learning begins; the paper has 25,000.",
                                   Int(1, 10**9))
    batch_size: int = setting(256, "Transitions in a gradient step.", Int(1, 1_000_000), search=Choice(128, 256))
    updates_per_step: float = setting(1.0, "Gradient steps for each environment step.", Float(1e-4, 1_000.0),
                                      search=Choice(0.5, 1.0, 2.0))
    lr: float = setting(3e-4, "Adam's learning rate, of the policy.", Float(0.0, 10.0),
                        search=Float(1e-4, 2e-3, log=True))
    critic_lr: float = setting(3e-4, "Adam's learning rate, of critics and embeddings.", Float(0.0, 10.0),
                               search=Float(1e-4, 2e-3, log=True))
    anneal_lr: bool = setting(False, "Lower the learning rates to 0 over the run, in a straight line.", FLAG,
                              search=FLAG)
    gamma: float = setting(0.99, "Discount per step.", Float(0.0, 1.0), search=Choice(0.95, 0.98, 0.99, 0.995, 0.999))
    n_step: int = setting(1, "Steps of real rewards before the critics' estimate.", Int(1, 1_000), search=Choice(1, 3))
    policy_every: int = setting(2, "Steps of the critics for each step of the policy.", Int(1, 1_000))
    target_every: int = setting(250, "Gradient steps from one copy to the targets to the next.", Int(1, 10**9),
                                search=Choice(100, 250, 500))
    num_critics: int = setting(2, "Critics; the smallest of their values counts.", Int(1, 64))
    exploration_noise: float = setting(0.1, "Deviation of the noise on actions in training; they span -1 to 1.",
                                       Float(0.0, 10.0), search=Choice(0.05, 0.1, 0.2))
    noise_memory: float = setting(0.0, "How much of the exploration noise lasts to the next step: 0 for fresh noise.",
                                  Float(0.0, 0.9999), search=Choice(0.0, 0.9, 0.98))
    target_noise: float = setting(0.2, "Deviation of the noise on the targets' actions.", Float(0.0, 10.0))
    target_noise_clip: float = setting(0.5, "Where that noise is cut.", Float(0.0, 10.0))
    alpha: float = setting(0.4, "How much priorities matter in what is drawn from the buffer; 0 not at all.",
                           Float(0.0, 1.0), search=Choice(0.0, 0.4))
    embedding: int = setting(256, "Numbers in an embedding.", Int(1, 65_536))
    width: int = setting(256, "Units of each hidden layer.", Int(1, 65_536), search=Choice(128, 256))
    normalize_obs: bool = setting(False, "Observations to mean 0 and deviation 1, by all that were seen.", FLAG)
    max_grad_norm: float = setting(0.0, "Longest gradient; longer ones are scaled down. 0 for no limit.",
                                   Float(0.0, 1e9))
    threads: int = setting(0, "Torch's threads; 0 for one.", Int(0, 1_024))
    precision: str = setting("auto", "What layers multiply in; auto: what is quicker. On a GPU bfloat16 is TF32.",
                             Choice("auto", "float32", "bfloat16"))
    device: str = setting("auto", "auto: the trial's GPU where it has one, otherwise the CPU.",
                          Choice("auto", "cpu", "cuda"))
