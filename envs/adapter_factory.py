"""From what a user names (an id, a class, a file) to a function that makes one environment of it, wrapped.

The function is pickled by value, so that a worker process can make the environment without the user's script.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from velodrome.envs.adapter_errors import EnvError, missing_module, raised, unknown_env, user_traceback
from velodrome.envs.wrappers import NamedWrapper, Wrapper
from velodrome.errors import nearest

PLUGINS = {"ALE": "ale_py"}
"""Modules that register the environments of a namespace, imported when one of them is asked for."""


@dataclass(frozen=True, slots=True)
class EnvFactory:
    """Makes one environment, with ``EpisodeTracker`` as its innermost layer.

    Attributes:
        target: A registered id, or a class or function that makes an environment.
        kwargs: Its arguments.
        wrappers: Applied in this order, the innermost first.
    """

    target: str | Callable[..., Any]
    kwargs: Mapping[str, Any]
    wrappers: tuple[Wrapper, ...] = ()

    @property
    def name(self) -> str:
        """The id, or the name of the class or function."""
        return self.target if isinstance(self.target, str) else _name_of(self.target)

    def __call__(self, index: int = 0) -> Any:
        """Environment number ``index`` of a batch; only number 0 records videos.

        Raises:
            EnvError: If it can't be made: an unknown id, a library that is missing, an error of its own code.
        """
        from velodrome.envs.wrappers_base import EpisodeTracker

        env = EpisodeTracker(self.make_bare())
        for wrapper in self.wrappers:
            if isinstance(wrapper, NamedWrapper) and wrapper.name == "video" and index:
                continue
            try:
                env = wrapper(env)
            except (EnvError, KeyboardInterrupt):
                raise
            except Exception as error:
                label = str(wrapper) if isinstance(wrapper, NamedWrapper) else _name_of(wrapper)
                raise missing_module(f"the wrapper {label}", error) or raised(f"the wrapper {label}", error) from error
        return env

    def make_bare(self) -> Any:
        """The environment as its makers made it, without wrappers of ours."""
        import gymnasium as gym

        try:
            if isinstance(self.target, str):
                env = gym.make(find_spec(self.target).id, disable_env_checker=True, **self.kwargs)
            else:
                env = self.target(**self.kwargs)
        except (EnvError, KeyboardInterrupt):
            raise
        except Exception as error:
            raise missing_module(self.name, error) or raised(f"making {self.name}", error) from error
        if not isinstance(env, gym.Env):
            raise EnvError(f"{self.name} made something that is no gymnasium.Env", given=type(env).__name__,
                           allowed="an object whose class derives from gymnasium.Env",
                           hint="class MyEnv(gymnasium.Env); velodrome does not speak the old Gym")
        return env


def find_spec(env_id: str) -> Any:
    """Gymnasium's ``EnvSpec`` of an id; ``"module:Name-v0"`` imports the module first.

    An id of the MinAtar package that nobody has registered means our simulator.

    Raises:
        EnvError: If there is none, with the nearest names; if the module can't be imported.
    """
    import gymnasium as gym

    from velodrome.envs.simulators.catalogue import ALIASES

    module, _, name = env_id.rpartition(":")
    if name in ALIASES and not module and name not in gym.registry:
        name = f"velodrome/{ALIASES[name]}"
    plugin = module or PLUGINS.get(name.split("/")[0], "")
    if name.startswith("velodrome/"):
        plugin = plugin or "velodrome.envs"
    if plugin and (module or importlib.util.find_spec(plugin)):
        try:
            importlib.import_module(plugin)
        except ModuleNotFoundError as error:
            if error.name != plugin.split(".")[0] and error.name != plugin:
                raise missing_module(env_id, error) or raised(f"importing {plugin}", error) from error
            raise EnvError(f"There is no module {plugin!r}", given=repr(env_id), allowed="'module:Name-v0'",
                           hint="run it in the folder of the module, or install the package") from None
        except Exception as error:
            raise raised(f"importing {plugin}", error) from error
    try:
        return gym.spec(name)
    except gym.error.DeprecatedEnv as error:
        raise EnvError("This version of the environment is gone", given=repr(env_id), hint=str(error)) from None
    except gym.error.Error:
        raise unknown_env(name, gym.registry) from None


def resolve(env: str | Callable[..., Any]) -> str | Callable[..., Any]:
    """A registered id as it is, or the class or function for ``"file.py:ClassName"``.

    Raises:
        EnvError: If there is no such file or name in it, or the file's own code raises.
    """
    if not isinstance(env, str):
        if not callable(env):
            raise EnvError("That makes no environment", given=repr(env),
                           allowed="an id, 'file.py:ClassName', a class or a function")
        return env
    path_text, _, name = env.rpartition(":") if ".py:" in env else (env, "", "")
    if not path_text.endswith(".py"):
        return env
    path = Path(path_text)
    if not path.is_file():
        raise EnvError("There is no such file", given=path_text, allowed="FILE.py:ClassName")
    module = _load_file(path)
    own = {key: value for key, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__}
    classes = [key for key, value in own.items() if _is_env_class(value)]
    if not name and len(classes) == 1:
        name = classes[0]
    if not name:
        raise EnvError(
            "Which class of the file?" if classes else "The file has no environment in it", given=path_text,
            allowed=", ".join(f"{path_text}:{key}" for key in classes) or "a class that derives from gymnasium.Env",
        )
    found: Callable[..., Any] | None = getattr(module, name, None)
    if found is None or not callable(found):
        raise EnvError(f"There is no {name!r} in {path_text}", given=env, allowed=", ".join(classes),
                       hint=nearest(name, classes))
    return found


def takes(target: Callable[..., Any], argument: str) -> bool:
    """Whether a class or function takes a keyword argument of that name, by its signature."""
    try:
        parameters = inspect.signature(target).parameters
    except (TypeError, ValueError):
        return False
    return argument in parameters


def _name_of(function: Callable[..., Any]) -> str:
    return str(getattr(function, "__name__", repr(function)))


def _load_file(path: Path) -> Any:
    """The module in a file; its folder is on the path, so that it can import what lies beside it."""
    import cloudpickle

    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    name = f"velodrome_env_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise EnvError("The file can't be loaded as Python", given=str(path))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    cloudpickle.register_pickle_by_value(module)  # a worker process has no such module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        text, place = user_traceback(error)
        raise EnvError(f"The file raised {type(error).__name__}: {error}", given=str(path),
                       hint=f"see {place}" if place else "", traceback=text, place=place) from error
    return module


def _is_env_class(value: Any) -> bool:
    return isinstance(value, type) and any(
        base.__name__ == "Env" and base.__module__.startswith("gymnasium") for base in value.__mro__[1:]
    )
