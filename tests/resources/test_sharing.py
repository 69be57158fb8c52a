"""Decisions over random workloads: no overcommit, no idle resources, no ping-pong, no starvation, shares by weight."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from tests.resources.simulation import Machine
from velodrome.resources import amounts as am
from velodrome.resources.books import Books
from velodrome.resources.decide import decide
from velodrome.resources.demand import Demand
from velodrome.resources.queue import never, serve
from velodrome.resources.state import Priority, Rules, Sharer

GIB = 1 << 30


def random_machine(rng: random.Random) -> Machine:
    capacity = {"cores": 1000 * rng.randint(1, 8), "memory": rng.randint(4, 64) * GIB}
    for index in range(rng.randint(0, 3)):
        capacity |= {f"gpu/G{index}": 1000, f"gpu_memory/G{index}": 16 * GIB}
    if rng.random() < 0.3:
        capacity["custom/licences"] = rng.randint(1, 3)
    rules = Rules(half_life_s=600.0, quantum_s=rng.choice([1.0, 10.0]))
    machine = Machine(capacity, rules, lag_s=rng.choice([0.0, 2.0]))
    left = 1.0
    for name in "abcd"[: rng.randint(1, 4)]:
        guarantee = rng.choice([0.0, 0.0, round(left / 2, 3)])
        left -= guarantee
        most = rng.choice([1.0, 1.0, 0.6])
        machine.add_tenant(name, weight=rng.choice([1.0, 1.0, 3.0]), guarantee=min(guarantee, most), max=most)
    return machine


def random_demand(rng: random.Random, machine: Machine) -> Demand:
    gpus = am.gpus_in(machine.capacity)
    num = rng.choice([0, 1, min(2, len(gpus))]) if gpus else 0
    millis = 1000 if num == 2 else rng.choice([250, 500, 1000])
    custom = (("licences", 1),) if "custom/licences" in machine.capacity and rng.random() < 0.5 else ()
    return Demand(
        rng.choice([333, 1000, 2000]), rng.choice([0, 0, 2 * GIB]), num, millis if num else 0,
        rng.choice([0, 4 * GIB]) if num else 0, custom,
    )


def live(machine: Machine, rng: random.Random, num_events: int) -> None:
    """Studies come, go, and want more and less; after each event everything that must hold is looked at."""
    for _ in range(num_events):
        here = [id_ for id_, sharer in machine.sharers.items() if sharer.wanted]
        match rng.choice(["come", "come", "go", "want", "time", "time"]):
            case "come" if len(here) < 6:
                priority = rng.choice([Priority.NORMAL, Priority.NORMAL, Priority.GUARANTEED, Priority.OPPORTUNISTIC])
                tenant = rng.choice(list(machine.tenants))
                machine.add(tenant, rng.randint(1, 6), random_demand(rng, machine), priority)
            case "go" if here:
                machine.leave(rng.choice(here))
            case "want" if here:
                machine.want(rng.choice(here), rng.randint(1, 6))
            case _:
                machine.run(rng.choice([1.0, 5.0, 30.0]), step_s=1.0)
        machine.settle()  # fails where it never comes to rest, or gives out what is not there
        check(machine)


def check(machine: Machine) -> None:
    state = machine.state()
    books = Books(state, state.leases)
    for name, tenant in machine.tenants.items():
        held = am.total(x.amounts for x in state.leases if machine.sharers[x.sharer].tenant == name)
        assert am.dominant_share(held, machine.capacity) <= tenant.max + 1e-6
    for id_, sharer in machine.sharers.items():
        assert books.counts[id_] <= max(sharer.wanted, machine.held(id_))
    queue = serve(books)
    assert not queue.grants, "something was free that somebody waits for"
    if queue.head is not None:  # what is kept for the head is all that may be idle
        spare = am.minus(books.free, queue.reserved)
        for sharer in state.sharers:
            wants = sharer.wanted > books.counts[sharer.id] and not sharer.is_opportunistic
            if wants and sharer is not queue.head and not never(books, sharer):
                need = sharer.demand.place(books.free_for(sharer, spare))
                assert need is None or not books.within_max(sharer, need)


def campaign(seeds: range, num_events: int) -> None:
    for seed in seeds:
        rng = random.Random(seed)
        try:
            live(random_machine(rng), rng, num_events)
        except AssertionError as error:
            raise AssertionError(f"workload {seed}: {error}") from error


def test_random_workloads() -> None:
    campaign(range(150), 8)


@pytest.mark.slow
def test_ten_thousand_random_workloads() -> None:
    campaign(range(1000, 11_000), 6)


# --- shares


def used_by(weights: dict[str, float], slots: int, seconds: float, quantum_s: float) -> dict[str, float]:
    machine = Machine({"cores": slots * 1000}, Rules(quantum_s=quantum_s))
    for name, weight in weights.items():
        machine.add_tenant(name, weight=weight)
        machine.add(name, slots)
    machine.run(seconds, step_s=quantum_s / 4)
    return {name: machine.used[name] / sum(machine.used.values()) for name in weights}


@pytest.mark.parametrize(("weights", "slots"), [
    ({"a": 3.0, "b": 1.0}, 2), ({"a": 1.0, "b": 1.0}, 1), ({"a": 5.0, "b": 2.0, "c": 1.0}, 3),
    ({"a": 1.0, "b": 1.0, "c": 1.0, "d": 1.0, "e": 1.0}, 2),
])
def test_in_the_long_run_the_shares_are_those_of_the_weights(weights: dict[str, float], slots: int) -> None:
    used = used_by(weights, slots, 600.0, 2.0)
    for name, weight in weights.items():
        assert used[name] == pytest.approx(weight / sum(weights.values()), rel=0.05)


def test_within_a_minute_they_are_too() -> None:
    used = used_by({"a": 3.0, "b": 1.0}, 2, 60.0, 1.0)
    assert used["a"] / used["b"] == pytest.approx(3.0, rel=0.05)


def test_dominant_shares_are_made_equal_not_counts() -> None:
    """A wants many cores, B much memory: with 9 cores and 18 GiB, DRF gives A 3 slots and B 2 (its paper, figure 1)."""
    machine = Machine({"cores": 9000, "memory": 18 * GIB})
    machine.add("a", 10, Demand(1000, 4 * GIB))
    machine.add("b", 10, Demand(3000, 1 * GIB))
    machine.settle()
    assert (machine.held(1), machine.held(2)) == (3, 2)


def test_whoever_comes_after_a_long_absence_does_not_get_everything() -> None:
    machine = Machine({"cores": 4000}, Rules(quantum_s=1.0))
    machine.add("a", 4)
    machine.run(3600.0, step_s=4.0)
    machine.add("b", 4)
    machine.used.clear()
    machine.run(60.0, step_s=0.5)
    assert machine.used["a"] / machine.used["b"] == pytest.approx(1.0, rel=0.05)


def test_whoever_wanted_little_pays_for_a_burst_too() -> None:
    machine = Machine({"cores": 8000}, Rules(quantum_s=1.0))
    machine.add("a", 8)
    small = machine.add("b", 1)
    machine.run(3600.0, step_s=4.0)
    machine.want(small, 8)
    machine.used.clear()
    machine.run(60.0, step_s=0.5)
    assert machine.used["a"] / machine.used["b"] == pytest.approx(1.0, rel=0.05)


def test_what_nobody_else_wants_is_had_by_whoever_wants_it() -> None:
    machine = Machine({"cores": 8000})
    for tenant, wanted in (("a", 1), ("b", 20)):
        machine.add(tenant, wanted)
    machine.run(100.0, step_s=5.0)
    assert (machine.held(1), machine.held(2)) == (1, 7)


def test_everybody_gets_something_sometime() -> None:
    """Eleven tenants, one slot: each has it within some quanta of coming."""
    machine = Machine({"cores": 1000}, Rules(quantum_s=10.0), lag_s=1.0)
    for index in range(11):
        machine.add(f"t{index:02}", 1)
    machine.run(11 * 12.0, step_s=1.0)
    assert min(machine.used[f"t{index:02}"] for index in range(11)) > 0


# --- preemption


def test_a_lease_is_left_alone_for_a_quantum() -> None:
    machine = Machine({"cores": 1000}, Rules(quantum_s=10.0))
    machine.add("a", 1)
    machine.settle()
    machine.now += 9.0
    machine.add("b", 1)
    assert not machine.step().take_back
    machine.run(2.0, step_s=1.0)
    assert (machine.held(1), machine.held(2)) == (0, 1)


def test_as_little_as_possible_moves() -> None:
    """Two tenants, one slot, a hundred quanta: not more than one move a quantum."""
    machine = Machine({"cores": 1000}, Rules(quantum_s=10.0))
    machine.add("a", 1)
    machine.add("b", 1)
    machine.run(1000.0, step_s=0.5)
    assert 50 <= machine.moves <= 101


def test_equal_holders_are_left_alone() -> None:
    machine = Machine({"cores": 8000}, Rules(quantum_s=10.0))
    machine.add("a", 8)
    machine.add("b", 8)
    machine.settle()
    machine.run(1000.0, step_s=5.0)
    assert (machine.held(1), machine.held(2)) == (4, 4)
    assert machine.moves == 0


def test_nothing_is_asked_back_where_nobody_waits_any_more() -> None:
    machine = Machine({"cores": 1000}, Rules(quantum_s=1.0), lag_s=100.0)
    machine.add("a", 1)
    machine.run(5.0)
    other = machine.add("b", 1)
    machine.run(1.0)
    assert machine.leases[1].back_by is not None
    machine.leave(other)
    assert machine.step().leave == (1,)
    assert machine.leases[1].back_by is None


def test_a_guarantee_is_met_at_once_and_kept() -> None:
    machine = Machine({"cores": 4000}, Rules(quantum_s=1000.0))
    machine.add_tenant("g", guarantee=0.5)
    machine.add("a", 4)
    machine.settle()
    machine.add("g", 4, priority=Priority.GUARANTEED)
    machine.settle()
    assert machine.held(2) == 2
    machine.run(5000.0, step_s=50.0, each=lambda: None)
    assert machine.held(2) >= 2


def test_opportunistic_studies_get_what_is_left_and_go_first() -> None:
    machine = Machine({"cores": 4000}, Rules(quantum_s=1000.0))
    machine.add("o", 4, priority=Priority.OPPORTUNISTIC)
    machine.settle()
    assert machine.held(1) == 4
    machine.add("a", 3)
    machine.settle()
    assert (machine.held(1), machine.held(2)) == (1, 3)
    machine.run(100.0, step_s=10.0)
    assert machine.tenants["o"].usage == 0


def test_two_studies_of_one_tenant_share_what_it_has() -> None:
    machine = Machine({"cores": 4000}, Rules(quantum_s=10.0))
    machine.add("a", 4)
    machine.run(20.0)
    machine.add("a", 4)
    machine.run(20.0)
    assert (machine.held(1), machine.held(2)) == (2, 2)


# --- the queue


def test_the_head_of_the_queue_is_not_passed_over() -> None:
    """B needs four cores at once; A's small trials could take every single one that is freed."""
    machine = Machine({"cores": 4000})
    machine.add_tenant("a", usage=1000.0)
    machine.add("a", 3)
    machine.settle()
    machine.add("b", 1, Demand(4000))
    machine.tenants["b"] = replace(machine.tenants["b"], usage=0.0)
    machine.add("a", 8)
    machine.settle()
    assert machine.held(3) == 0  # one core is free, and kept
    del machine.leases[1]
    machine.sharers[1] = replace(machine.sharers[1], wanted=2)
    machine.settle()
    assert machine.held(3) == 0
    machine.leave(1)
    machine.settle()
    assert machine.held(2) == 1


def test_what_the_head_does_not_need_is_given_out() -> None:
    machine = Machine({"cores": 8000, "gpu/G0": 1000, "gpu/G1": 1000}, Rules(quantum_s=1e9))
    machine.add("a", 1, Demand(1000, num_gpus=1, gpu_millis=1000))
    machine.settle()
    machine.add("b", 1, Demand(1000, num_gpus=2, gpu_millis=1000))
    machine.add("c", 9)
    machine.settle()
    assert (machine.held(2), machine.held(3)) == (0, 6)  # a core and the free GPU are kept for B
    machine.leave(1)
    machine.settle()
    assert machine.held(2) == 1


def test_backfill_never_delays_the_head() -> None:
    """With and without the small studies behind it, the head starts in the same step of the same history."""
    for seed in range(200):
        rng = random.Random(seed)
        ends = [rng.randint(1, 20) for _ in range(4)]
        starts = []
        for with_others in (False, True):
            machine = Machine({"cores": 4000})
            machine.add_tenant("a", usage=1000.0)
            machine.add_tenant("c", usage=2000.0)
            for _ in ends:
                machine.add("a", 1)
            machine.settle()
            machine.add("b", 1, Demand(3000))
            if with_others:
                for _ in range(3):
                    machine.add("c", 2, Demand(rng.choice([300, 1000])))
            for step in range(30):
                for id_, end in enumerate(ends, start=1):
                    if end == step:
                        machine.leave(id_)
                machine.settle()
                if machine.held(5):
                    starts.append(step)
                    break
        assert starts[0] == starts[1], f"workload {seed}"


def test_best_fit_leaves_whole_gpus_whole() -> None:
    machine = Machine({"cores": 9000, "gpu/G0": 1000, "gpu/G1": 1000})
    half = Demand(1000, num_gpus=1, gpu_millis=500)
    machine.add("a", 1, half)
    machine.settle()
    machine.add("b", 1, half)
    machine.settle()
    assert machine.leases[1].amounts["gpu/G0"] == machine.leases[2].amounts["gpu/G0"] == 500
    machine.add("c", 1, Demand(1000, num_gpus=1, gpu_millis=1000))
    machine.settle()
    assert machine.held(3) == 1


def test_a_gang_takes_all_its_gpus_or_none() -> None:
    machine = Machine({"cores": 9000, "gpu/G0": 1000, "gpu/G1": 1000}, Rules(quantum_s=1.0))
    machine.add("a", 2, Demand(1000, num_gpus=1, gpu_millis=1000))
    machine.run(10.0)
    machine.add("b", 1, Demand(1000, num_gpus=2, gpu_millis=1000))
    seen = set()

    def look() -> None:
        on = [len(am.gpus_in(x.amounts)) for x in machine.leases.values() if x.sharer == 2]
        seen.update(on)

    machine.run(60.0, each=look)
    assert seen == {2}
    assert machine.used["b"] > 0


def test_why_a_study_waits() -> None:
    machine = Machine({"cores": 2000, "custom/licences": 1}, Rules(quantum_s=1e9))
    machine.add_tenant("m", max=0.5)
    machine.add("a", 2)
    machine.settle()
    machine.add("b", 1)
    machine.add("c", 1, Demand(1000, custom=(("licences", 5),)))
    machine.add("m", 2)
    waiting = decide(machine.state()).waiting
    assert waiting[2] == "first in the queue: too little of cores is free; a/study1 holds 2"
    assert waiting[3] == "asks for more than there is: 1 core, 5 licences for each trial"
    machine.leave(1)
    machine.leave(2)
    machine.settle()
    assert decide(machine.state()).waiting[4] == "m is at its maximum, 50% of the machine"


def test_a_stopped_study_gets_nothing_and_blocks_nobody() -> None:
    machine = Machine({"cores": 2000})
    stopped = machine.add("a", 2)
    machine.sharers[stopped] = replace(machine.sharers[stopped], is_stopped=True)
    machine.add("b", 2)
    machine.settle()
    assert (machine.held(1), machine.held(2)) == (0, 2)


def test_a_process_is_given_only_what_it_may_use() -> None:
    machine = Machine({"cores": 8000, "gpu/G0": 1000, "gpu/G1": 1000})
    view = {"cores": 2000, "gpu/G1": 1000}
    demand = Demand(1000, num_gpus=1, gpu_millis=500)
    machine.sharers[1] = Sharer(1, "a", "s", Priority.NORMAL, demand, view, 0, machine.now)
    machine.add_tenant("a")
    machine.want(1, 5)
    machine.settle()
    assert [am.gpus_in(lease.amounts) for lease in machine.leases.values()] == [["G1"], ["G1"]]
