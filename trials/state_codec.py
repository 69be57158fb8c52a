"""A checkpoint's state as JSON and arrays, and back: every value returns with its type, and nothing is ever pickled.

JSON's own values stand for themselves. What JSON does not have is an object with the key ``$``: a tuple, a dict whose
keys are no texts, bytes, NaN, an integer beyond 64 bits, a NumPy scalar, and, by its key in the file beside, a NumPy
array or a torch tensor. A tensor or array that occurs twice is kept once, and is one object again afterwards.
"""

from __future__ import annotations

import base64
import json
import math
import sys
from collections import OrderedDict
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    import torch

_TAG = "$"
_INT64 = 1 << 63
_MAX_DEPTH = 200
_PLAIN = frozenset({bool, int, float, str, type(None)})
_NATIVE = frozenset({
    "float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8", "bool",
    "complex64",
})
"""The types of arrays that safetensors knows; others are kept as their bytes."""
_TENSORS = frozenset({
    "float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint64", "uint32", "uint16",
    "uint8", "bool", "complex64", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz",
})
_ALLOWED = (
    "dict, list, tuple, str, bytes, int, float, bool, None, a NumPy array or scalar, a torch tensor"
)


class Encoded(NamedTuple):
    """A state in parts: JSON text, and what goes to safetensors files, by key. Tensors are on the CPU."""

    text: str
    arrays: dict[str, np.ndarray[Any, Any]]
    tensors: dict[str, torch.Tensor]


def encode(state: Any) -> Encoded:
    """The parts of a state. They may share memory with it, so write them before it changes.

    Raises:
        TypeError: If something in it can't be kept; it names the place, such as ``state['model']['x']``.
    """
    encoder = _Encoder()
    text = json.dumps(encoder.value(state, ()), separators=(",", ":"), allow_nan=False)
    return Encoded(text, encoder.arrays, encoder.tensors)


def decode(
    text: str, arrays: dict[str, np.ndarray[Any, Any]], tensors: dict[str, torch.Tensor], map_to: str = "cpu"
) -> Any:
    """The state whose parts these are. ``map_to`` is where tensors go that were on a GPU."""
    return _Decoder(arrays, tensors, map_to).value(json.loads(text))


class _Encoder:
    """Takes a state apart."""

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray[Any, Any]] = {}
        self.tensors: dict[str, torch.Tensor] = {}
        self._array_keys: dict[int, str] = {}
        self._tensor_keys: dict[tuple[Any, ...], str] = {}
        self._storages: set[int] = set()

    def value(self, value: Any, path: tuple[Any, ...]) -> Any:  # one branch per type
        """The value's JSON."""
        kind = type(value)
        if kind in _PLAIN:
            return _scalar(value)
        if len(path) > _MAX_DEPTH:
            raise TypeError(f"checkpoint: {_place(path[:3])}... is nested too deeply: does it contain itself?")
        if kind is dict or kind is OrderedDict:
            return self._mapping(value, path)
        if kind is list:
            return self._items(value, path)
        if kind is tuple:
            return {_TAG: "tuple", "v": self._items(value, path)}
        if kind is bytes:
            return {_TAG: "bytes", "v": base64.b64encode(value).decode()}
        return self._numeric(value, path)

    def _mapping(self, value: dict[Any, Any], path: tuple[Any, ...]) -> Any:
        metadata = getattr(value, "_metadata", None)  # of a torch module's state_dict: its layers' versions
        if type(value) is dict and all(type(key) is str for key in value) and _TAG not in value:
            return {key: self.value(item, (*path, key)) for key, item in value.items()}
        pairs = [[self._key(key, path), self.value(item, (*path, key))] for key, item in value.items()]
        coded = {_TAG: "dict" if type(value) is dict else "ordered", "v": pairs}
        if metadata is not None:
            coded["m"] = self.value(metadata, (*path, "_metadata"))
        return coded

    def _key(self, key: Any, path: tuple[Any, ...]) -> Any:
        if type(key) in _PLAIN or type(key) in (bytes, tuple):
            return self.value(key, (*path, key))
        raise TypeError(f"checkpoint: a key of {_place(path)} is {key!r:.60} ({type(key).__name__}), which can't be "
                        "kept; allowed are str, int, float, bool, None, bytes and tuples of them")

    def _items(self, items: list[Any] | tuple[Any, ...], path: tuple[Any, ...]) -> list[Any]:
        if set(map(type, items)) <= _PLAIN:  # random.getstate() has 625 integers
            return list(map(_scalar, items))
        return [self.value(item, (*path, index)) for index, item in enumerate(items)]

    def _numeric(self, value: Any, path: tuple[Any, ...]) -> Any:
        """Arrays, tensors and NumPy scalars; neither library is loaded here, for who has such a value has loaded it."""
        numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
        if torch is not None and type(value) in (torch.Tensor, torch.nn.Parameter):
            return self._tensor(torch, value, path)
        if numpy is not None and type(value) is numpy.ndarray and value.dtype.kind in "biufcmMSU":
            return self._array(numpy, value, path)
        if numpy is not None and isinstance(value, numpy.generic) and value.dtype.kind in "biufcmM":
            raw = base64.b64encode(value.tobytes()).decode()
            return {_TAG: "scalar", "dtype": value.dtype.str, "v": raw}
        kind = type(value)
        name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
        raise TypeError(f"checkpoint: {_place(path)} is {name}, which can't be kept; allowed are {_ALLOWED}")

    def _array(self, numpy: Any, array: np.ndarray[Any, Any], path: tuple[Any, ...]) -> Any:
        key = self._array_keys.get(id(array))
        if key is None:
            key = self._array_keys[id(array)] = _new_key(path, self.arrays)
            if array.dtype.name in _NATIVE and array.dtype.isnative:
                self.arrays[key] = array if array.flags.c_contiguous else array.copy(order="C")
            else:
                self.arrays[key] = numpy.frombuffer(array.tobytes(), numpy.uint8)
        if array.dtype.name in _NATIVE and array.dtype.isnative:
            return {_TAG: "array", "k": key}
        return {_TAG: "array", "k": key, "dtype": array.dtype.str, "shape": list(array.shape)}

    def _tensor(self, torch: Any, tensor: Any, path: tuple[Any, ...]) -> Any:
        is_complex = tensor.dtype is torch.complex128
        known = is_complex or str(tensor.dtype).removeprefix("torch.") in _TENSORS
        if tensor.layout is not torch.strided or tensor.device.type == "meta" or not known:
            what = f"{tensor.dtype} {tensor.layout} tensor on {tensor.device.type}"
            raise TypeError(f"checkpoint: {_place(path)} is a {what}, which can't be kept; make it a dense one of a "
                            "plain type")
        flags = ["gpu"] if tensor.device.type != "cpu" else []
        flags += ["parameter"] if type(tensor) is torch.nn.Parameter else []
        flags += ["grad"] if tensor.requires_grad and tensor.is_leaf else []
        flags += ["complex"] if is_complex else []
        data = tensor.detach()
        same = (data.device, data.data_ptr(), data.dtype, data.shape, data.stride(), data.is_conj(), data.is_neg())
        key = self._tensor_keys.get(same) if data.numel() else None
        if key is None:
            key = self._tensor_keys[same] = _new_key(path, self.tensors)
            self.tensors[key] = self._alone(torch.view_as_real(data.resolve_conj()) if is_complex else data)
        return {_TAG: "tensor", "k": key, **({"f": flags} if flags else {})}

    def _alone(self, tensor: Any) -> Any:
        """The tensor on the CPU, contiguous, in memory that it shares with no other of the state."""
        tensor = tensor.cpu().resolve_conj().resolve_neg().contiguous()
        storage = tensor.untyped_storage()
        if storage.data_ptr() in self._storages or storage.nbytes() != tensor.numel() * tensor.element_size():
            tensor = tensor.clone()
            storage = tensor.untyped_storage()
        self._storages.add(storage.data_ptr())
        return tensor


class _Decoder:
    """Puts a state together."""

    def __init__(
        self, arrays: dict[str, np.ndarray[Any, Any]], tensors: dict[str, torch.Tensor], map_to: str
    ) -> None:
        self._arrays, self._tensors, self._map_to = arrays, tensors, map_to
        self._made: dict[str, Any] = {}

    def value(self, coded: Any) -> Any:
        """The value of a piece of JSON."""
        if type(coded) is list:
            return [self.value(item) for item in coded] if any(type(i) in (list, dict) for i in coded) else coded
        if type(coded) is not dict:
            return coded
        if _TAG not in coded:
            return {key: self.value(item) for key, item in coded.items()}
        match coded[_TAG]:
            case "tuple":
                return tuple(self.value(coded["v"]))
            case "dict":
                return {self.value(key): self.value(item) for key, item in coded["v"]}
            case "ordered":
                return self._ordered(coded)
            case "bytes":
                return base64.b64decode(coded["v"])
            case "float":
                return float(coded["v"])
            case "int":
                return int(coded["v"], 16)
            case "scalar":
                import numpy as np

                return np.frombuffer(base64.b64decode(coded["v"]), coded["dtype"])[0]
            case "array":
                return self._array(coded)
            case "tensor":
                return self._tensor(coded)
        raise ValueError(f"a checkpoint of a newer version: {coded[_TAG]!r} is not known")

    def _ordered(self, coded: dict[str, Any]) -> OrderedDict[Any, Any]:
        ordered = OrderedDict((self.value(key), self.value(item)) for key, item in coded["v"])
        if "m" in coded:
            setattr(ordered, "_metadata", self.value(coded["m"]))  # noqa: B010 - torch's attribute, unknown to mypy
        return ordered

    def _array(self, coded: dict[str, Any]) -> np.ndarray[Any, Any]:
        key = f"array {coded['k']}"
        if key not in self._made:
            import numpy as np

            array = np.array(self._arrays[coded["k"]])
            if "dtype" in coded:
                array = np.frombuffer(bytearray(array.tobytes()), coded["dtype"]).reshape(coded["shape"])
            self._made[key] = array
        found: np.ndarray[Any, Any] = self._made[key]
        return found

    def _tensor(self, coded: dict[str, Any]) -> torch.Tensor:
        flags = coded.get("f", ())
        key = f"tensor {coded['k']} {flags}"
        if key not in self._made:
            import torch

            tensor = self._tensors[coded["k"]]
            tensor = torch.view_as_complex(tensor.clone()) if "complex" in flags else tensor.clone()
            tensor = tensor.to(self._map_to) if "gpu" in flags else tensor
            if "parameter" in flags:
                tensor = torch.nn.Parameter(tensor, requires_grad="grad" in flags)
            elif "grad" in flags:
                tensor.requires_grad_()
            self._made[key] = tensor
        found: torch.Tensor = self._made[key]
        return found


def _scalar(value: Any) -> Any:
    """JSON for a value of a plain type."""
    if type(value) is float and not math.isfinite(value):
        return {_TAG: "float", "v": repr(value)}
    if type(value) is int and not -_INT64 <= value < 2 * _INT64:
        return {_TAG: "int", "v": hex(value)}
    return value


def _place(path: Iterable[Any]) -> str:
    return "state" + "".join(f"[{key!r:.60}]" for key in path)


def _new_key(path: tuple[Any, ...], taken: dict[str, Any]) -> str:
    """A name for what lies there in the state: ``model.0.weight`` of ``state['model']['0.weight']``."""
    name = ".".join(map(str, path)) or "state"
    name = name.encode("utf-8", "backslashreplace").decode()
    key, count = name, 1
    while key in taken or key == "__metadata__":
        count += 1
        key = f"{name}#{count}"
    return key
