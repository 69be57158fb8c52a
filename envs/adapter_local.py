"""Environments in this process, stepped one after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from velodrome.envs.adapter_buffers import Buffers
from velodrome.envs.adapter_errors import EnvError
from velodrome.envs.adapter_rows import EnvRows
from velodrome.envs.env_batch import Group


class LocalStepper:
    """A ``Stepper`` over environments in this process.

    Args:
        make_env: Makes environment number i.
        num_envs: How many.
        info_keys: Numbers in the infos to keep.
    """

    num_lost_episodes = 0
    num_restarts = 0

    def __init__(self, make_env: Callable[[int], Any], num_envs: int, info_keys: tuple[str, ...] = ()) -> None:
        self._rows = EnvRows(make_env, range(num_envs))
        self.spec = self._rows.spec(num_envs, info_keys)
        self.buffers = Buffers.allocate(self.spec)
        self._rows.attach(self.spec, self.buffers)
        self.source = f"{num_envs} in this process"

    @property
    def envs(self) -> Sequence[Any]:
        """The environments, for a look at them."""
        return self._rows.envs

    def reset(self, seeds: Sequence[int | None]) -> None:
        """Begins a new episode in every environment."""
        self._rows.reset(dict(enumerate(seeds)))

    def send(self, group: Group) -> None:
        """Steps the group's rows at once."""
        self._rows.step(range(group.rows.start, group.rows.stop))

    def receive(self, group: Group) -> None:
        """Nothing to wait for."""

    def get_state(self) -> dict[str, Any]:
        """The environments' states and the buffers."""
        return batch_state(self._rows.save(), self.buffers)

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Goes on from a state, of this kind of stepper or of workers."""
        check_state(state, self.spec.num_envs)
        load_buffers(self.buffers, state["buffers"])
        self._rows.load(state["envs"])

    def close(self) -> None:
        """Closes the environments."""
        self._rows.close()


def batch_state(envs: Sequence[Mapping[str, Any]], buffers: Buffers) -> dict[str, Any]:
    """A batch's state from its environments' states and its buffers."""
    whys = [env["why"] for env in envs if not env["exact"]]
    arrays = {name: getattr(buffers, name).copy() for name in buffers.__dataclass_fields__}
    return {"exact": not whys, "why": whys[0] if whys else "", "envs": list(envs), "buffers": arrays}


def load_buffers(buffers: Buffers, arrays: Mapping[str, Any]) -> None:
    """Writes saved arrays into the buffers."""
    for name, values in arrays.items():
        getattr(buffers, name)[...] = values


def check_state(state: Mapping[str, Any], num_envs: int) -> None:
    """Checks that a state fits a batch.

    Raises:
        EnvError: If it is of another number of environments.
    """
    given = len(state["envs"])
    if given != num_envs:
        raise EnvError("The state is of another batch", given=f"{given} environments", allowed=str(num_envs))
