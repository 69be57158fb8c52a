"""A policy: networks for what to do and for how good it is, with the normalisation of what it sees.

Discrete, multi-discrete and multi-binary actions, with masks where the environment gives them, and continuous ones
(a diagonal Gaussian whose deviation does not depend on the state). Vectors go through two separate perceptrons, images
through one convolutional trunk with two heads. With memory, they are also given what an LSTM makes of it.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor, nn

from velodrome.envs.adapter_spaces import ActionLayout
from velodrome.errors import UsageError
from velodrome.rl.agent import ForgetfulPlayer, Player, RecurrentPlayer
from velodrome.rl.dense import Mlp
from velodrome.rl.distributions import Categorical, Distribution, MultiBinary, MultiDiscrete
from velodrome.rl.gaussians import DiagonalGaussian
from velodrome.rl.networks import CNN, MINATAR, NATURE
from velodrome.rl.recurrent import LSTMCore, LSTMState, Memory
from velodrome.rl.sight import Sight, has_channels_last
from velodrome.rl.twins import run_both

Array = np.ndarray[Any, np.dtype[Any]]

_HEAD_GAIN, _VALUE_GAIN = 0.01, 1.0
_NATURE_PIXELS = 36

_PART = 256
"""Images that go through a network at once where no gradients are needed."""


@dataclass(frozen=True, slots=True)
class PolicySpec:
    """What a policy is built from.

    Attributes:
        obs_shape: Of one observation.
        obs_dtype: Its NumPy dtype.
        action: What an action is.
        network: ``auto``, ``mlp`` or ``cnn``.
        width: Units of each hidden layer of an mlp.
        depth: Their number.
        activation: ``tanh`` or ``relu``.
        log_std_init: Log of the first deviation of continuous actions.
        normalize_obs: Whether observations are normalised by all that were seen.
        memory: ``none`` or ``lstm``.
        memory_units: Units of the LSTM.
    """

    obs_shape: tuple[int, ...]
    obs_dtype: np.dtype[Any]
    action: ActionLayout
    network: str = "auto"
    width: int = 64
    depth: int = 2
    activation: str = "tanh"
    log_std_init: float = 0.0
    normalize_obs: bool = False
    memory: str = "none"
    memory_units: int = 64

    @property
    def is_image(self) -> bool:
        """Whether the convolutional network is used.

        Raises:
            UsageError: If it is asked for, and observations are no images.
        """
        fits = len(self.obs_shape) == 3
        if self.network == "cnn" and not fits:
            raise UsageError("A cnn needs images", given=f"observations of shape {self.obs_shape}",
                             allowed="three dimensions", hint="-p network=mlp")
        return fits and self.network != "mlp"

    @property
    def num_outputs(self) -> int:
        """Numbers that the policy's head gives."""
        return sum(self.action.sizes) if self.action.sizes else math.prod(self.action.shape)


class Policy(nn.Module):
    """Distribution of actions and value of a batch of observations.

    The calling loop: ``x = policy.sight.see(obs)``, ``pi = policy.act(x, mask)``,
    ``policy.to_env(pi.sample(generator))`` when acting; ``pi, v = policy(x, mask)`` when learning. With memory,
    ``pi, state = policy.step(x, mask, state)`` and ``pi, v = policy(x, mask, memory)``; ``step`` serves both.

    Args:
        spec: What it is built from.
        generator: Draws the weights.
    """

    def __init__(self, spec: PolicySpec, generator: Generator | None = None) -> None:
        super().__init__()
        self.spec = spec
        self.sight = Sight(spec.obs_shape, is_image=spec.is_image, normalize=spec.normalize_obs)
        outputs = spec.num_outputs
        if spec.is_image:
            self.trunk: nn.Module = ImageTrunk(spec.obs_shape, generator)
            size, hidden = self.trunk.num_features, []
        else:
            self.trunk = nn.Identity()
            size, hidden = math.prod(spec.obs_shape), [spec.width] * spec.depth
        self.core = LSTMCore(size, spec.memory_units, generator=generator) if spec.memory == "lstm" else None
        sizes = [size if self.core is None else size + self.core.num_features, *hidden]
        how: dict[str, Any] = {"activation": spec.activation, "generator": generator}
        self.head = Mlp([*sizes, outputs], gain=_HEAD_GAIN, **how)
        self.critic = Mlp([*sizes, 1], gain=_VALUE_GAIN, **how)
        self.is_side_by_side = False
        """Whether ``outputs`` computes policy and value on two threads; on a CPU."""
        self.log_std = nn.Parameter(torch.full((outputs,), spec.log_std_init)) if spec.action.kind == "box" else None

    def forward(
        self, x: Tensor, mask: Tensor | None = None, memory: Memory | None = None
    ) -> tuple[Distribution, Tensor]:
        """Distribution of actions and value ``[B]`` for what ``sight.see`` gave; mask as ``ActionLayout`` has it.

        With memory, the rows are those of sequences, ``[T * N]`` with T first.
        """
        head, value = self.outputs(x, memory)
        return self.distribution(head, mask), value

    def outputs(self, x: Tensor, memory: Memory | None = None) -> tuple[Tensor, Tensor]:
        """What the networks give: ``[B, num_outputs]``, which ``distribution`` takes, and the value ``[B]``."""
        features = self.trunk(x)
        if self.core is not None:
            assert memory is not None
            remembered_t, _ = self.core(features.view(*memory.start_t.shape, -1), *memory)
            features = torch.cat([features, remembered_t.flatten(0, 1)], -1)
        if self.is_side_by_side:
            head, value = run_both(self.head, self.critic, features)
            return head, value.squeeze(-1)
        return self.head(features), self.critic(features).squeeze(-1)

    def act(self, x: Tensor, mask: Tensor | None = None) -> Distribution:
        """The distribution of actions alone."""
        return self.distribution(self.head(self.trunk(x)), mask)

    def step(
        self, x: Tensor, mask: Tensor | None, state: LSTMState | None
    ) -> tuple[Distribution, LSTMState | None]:
        """The distribution of actions at one step of each environment, and what is remembered after it."""
        features, state = self._remember(x, state)
        return self.distribution(self.head(features), mask), state

    def acting_outputs(
        self, x: Tensor, state: LSTMState | None = None
    ) -> tuple[Tensor, Tensor | None, LSTMState | None]:
        """What the head gives, the value ``[B]`` of images or None, and what is remembered.

        The value of images costs next to nothing beside their convolutions.
        """
        features, state = self._remember(x, state)
        value = self.critic(features).squeeze(-1) if self.spec.is_image else None
        return self.head(features), value, state

    def value(self, x: Tensor, state: LSTMState | None = None) -> Tensor:
        """The value alone, ``[B]``; with memory, of observations that follow what is remembered."""
        features, _ = self._remember(x, state)
        value: Tensor = self.critic(features).squeeze(-1)
        return value

    def at_rest(self) -> AbstractContextManager[None]:
        """A block in which no weight changes, as while acting: what can be prepared once is."""
        return self.trunk.at_rest() if isinstance(self.trunk, ImageTrunk) else nullcontext()

    def initial_state(self, num_envs: int) -> LSTMState | None:
        """What is remembered when episodes begin; None without memory."""
        return None if self.core is None else self.core.initial_state(num_envs)

    def player(self, num_envs: int) -> Player:
        """Plays in so many environments."""
        if self.core is not None:
            return RecurrentPlayer(self, num_envs, next(self.parameters()).device)
        return ForgetfulPlayer(self, next(self.parameters()).device)

    def to_env(self, action: Tensor) -> Array:
        """A batch of actions as ``EnvBatch.step`` takes them."""
        layout = self.spec.action
        array = action.detach().cpu().numpy()
        return array if array.shape[1:] == layout.shape else array.reshape(len(array), *layout.shape)

    def _remember(self, x: Tensor, state: LSTMState | None) -> tuple[Tensor, LSTMState | None]:
        features = self.trunk(x)
        if self.core is None:
            return features, None
        assert state is not None
        state = self.core.step(features, state)
        return torch.cat([features, state.h], -1), state

    def distribution(self, head: Tensor, mask: Tensor | None) -> Distribution:
        """The distribution that the head's outputs stand for."""
        match self.spec.action.kind:
            case "discrete":
                return Categorical(head, mask)
            case "multi_discrete":
                return MultiDiscrete(head, self.spec.action.sizes, mask)
            case "multi_binary":
                return MultiBinary(head)
            case _:
                assert self.log_std is not None
                return DiagonalGaussian(head, self.log_std.to(head.device))


class ImageTrunk(nn.Module):
    """Convolutions over images: Nature's from 36 pixels on, one of 3 x 3 for smaller ones.

    Args:
        shape: Of an observation, with its channels first or last (``has_channels_last``).
        generator: Draws the weights.
    """

    def __init__(self, shape: tuple[int, ...], generator: Generator | None = None) -> None:
        super().__init__()
        channels, height, width = (shape[2], *shape[:2]) if has_channels_last(shape) else shape
        is_large = min(height, width) >= _NATURE_PIXELS
        self.cnn = CNN(
            (channels, height, width), convolutions=NATURE if is_large else MINATAR,
            num_features=512 if is_large else 128, generator=generator,
        )
        self.num_features = self.cnn.num_features
        self.shape = channels, height, width

    def at_rest(self) -> AbstractContextManager[None]:
        """While its weights do not change; see ``CNN.at_rest``."""
        return self.cnn.at_rest()

    @property
    def precision(self) -> str:
        """What it computes in: ``float32`` or ``bfloat16`` (``precision``). What it gives is float32."""
        return self.cnn.precision

    @precision.setter
    def precision(self, name: str) -> None:
        self.cnn.precision = name

    def forward(self, images: Tensor) -> Tensor:
        """``[B, num_features]`` of ``[B, H, W, C]``, as ``Sight`` gives them; bytes count as 255ths.

        Without gradients many images go through in parts, whose activations fit into the processor's caches.
        """
        images = images.permute(0, 3, 1, 2)
        if torch.is_grad_enabled() or len(images) <= _PART:
            features: Tensor = self.cnn(images)
            return features
        return torch.cat([self.cnn(part) for part in torch.split(images, _PART)])
