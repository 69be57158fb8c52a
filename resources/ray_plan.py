"""How many workers a Ray cluster is to have, and what each asks it for: a pure function, like ``allocator.plan``.

Ray itself chooses the nodes. Nothing here imports it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from velodrome.errors import UsageError
from velodrome.resources.request import AUTO_GPU, ResourceRequest
from velodrome.resources.slots import Slot

_WHOLE_GPU = 1000
_RAYS_OWN = ("CPU", "GPU", "memory", "object_store_memory")


@dataclass(frozen=True, slots=True)
class RayPlan:
    """Who asks for what.

    Attributes:
        slots: One for each worker.
        bundle: What each worker asks Ray for: ``{"CPU": 2.0, "GPU": 0.5, "memory": 4294967296.0}``.
        reasons: Why so many, a sentence each.
    """

    slots: tuple[Slot, ...]
    bundle: dict[str, float]
    reasons: tuple[str, ...]


def plan_ray(
    nodes: Sequence[Mapping[str, float]], request: ResourceRequest, workers: int | None, threads: int | None = None,
) -> RayPlan:
    """The workers of a study on a cluster.

    More of them than fit now, or ever, is no error: nodes come and go. Those without a place wait for one.

    Args:
        nodes: What each node has in all, by Ray's names of resources.
        request: What each trial asks for.
        workers: How many trials are to run at once; None for as many as all nodes can hold.
        threads: How many threads a worker's libraries may start; by default as many as it asks for cores.

    Raises:
        UsageError: If the number of workers makes no sense, or GPU memory is asked for, which Ray does not count.
    """
    if workers is not None and workers < 1:
        raise UsageError("A number of workers makes no sense", given=str(workers), allowed="1 or more")
    if request.gpu_memory_bytes:
        raise UsageError("Ray does not count GPU memory", given=str(request), allowed="cpus, gpu, memory",
                         hint="ask for a part of a GPU: gpu=0.5")
    reasons = []
    if request.gpu_millis == AUTO_GPU:
        num_gpus = int(sum(node.get("GPU", 0) for node in nodes))
        sharers = -(-(workers or 1) // num_gpus) if num_gpus else 0
        request = replace(request, gpu_millis=_WHOLE_GPU // sharers if sharers else 0)
        reasons.append(
            "on CPUs: the cluster has no GPU" if not sharers else "each trial has a GPU to itself" if sharers == 1
            else f"up to {sharers} trials share a GPU"
        )
    bundle = bundle_of(request)
    fitting = sum(num_fitting(node, bundle) for node in nodes)
    shape = ", ".join(f"{amount:g} {name}" for name, amount in bundle.items())
    where = f"{len(nodes)} node{'s' * (len(nodes) != 1)} of a Ray cluster"
    if workers is None:
        workers = max(1, fitting)
        reasons.append(f"{workers} worker{'s' * (workers != 1)}: as many as {where} can hold ({shape} each)")
    else:
        reasons.append(f"{workers} worker{'s' * (workers != 1)}, as asked, on {where} ({shape} each)")
    if not fitting:
        reasons.append("no node can hold one, and a worker has all on one node: they wait for a larger one")
    elif workers > fitting:
        reasons.append(f"the nodes can hold {fitting} of them: the others wait for a place")
    device = "cuda" if request.gpu_millis else "cpu"
    slot = Slot(0, threads or request.cpus, device, device, memory_bytes=request.memory_bytes)
    return RayPlan(tuple(replace(slot, index=index) for index in range(workers)), bundle, tuple(reasons))


def bundle_of(request: ResourceRequest) -> dict[str, float]:
    """A request, by Ray's names of resources."""
    bundle = {"CPU": float(request.cpus)}
    if request.gpu_millis:
        bundle["GPU"] = request.gpu_millis / _WHOLE_GPU
    if request.memory_bytes:
        bundle["memory"] = float(request.memory_bytes)
    return bundle | {name: float(amount) for name, amount in request.custom if amount}


def custom_resources(nodes: Sequence[Mapping[str, float]]) -> list[str]:
    """The names of what else the nodes count (``ray start --resources='{"licences": 4}'``)."""
    names = dict.fromkeys(name for node in nodes for name in node if ":" not in name)
    return [name for name in names if name not in _RAYS_OWN]


def num_fitting(free: Mapping[str, float], bundle: Mapping[str, float]) -> int:
    """How many such bundles fit into what a node has; a part of a GPU lies on one GPU."""
    counts = []
    for name, amount in bundle.items():
        have = free.get(name, 0.0)
        if name == "GPU" and amount < 1:
            counts.append(int(have) * int(1 / amount + 1e-9))
        else:
            counts.append(int(have / amount + 1e-9))
    return min(counts)
