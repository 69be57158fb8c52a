"""Members leave a group and join it; the others don't notice, and they go on with the same numbers."""

from __future__ import annotations

import pytest
import torch

from tests.trials.fused.jobs import CNN, MLP, Recurrent, members
from tests.trials.fused.test_equivalence import difference
from velodrome.trials.fused.alone import Alone
from velodrome.trials.fused.fused import Fused
from velodrome.trials.fused.member import Member, MemberState
from velodrome.trials.state_codec import decode, encode
from velodrome.trials.training_job import TrainingJob


def alone_after(job: TrainingJob, member: Member, steps: int) -> MemberState:
    training = Alone(job, member, dtype=torch.float64)
    training.step(steps)
    return training.state()


def test_two_leave_one_diverges_one_pauses_and_comes_back() -> None:
    job = MLP()
    those = members(8, drop=[0.1, 0.3], width=[4, 8], batch_size=[16, 9], optimizer="sgd", momentum=0.9)
    those[5] = Member(5, {**those[5].params, "lr": 1e200}, those[5].seed)
    group = Fused(job, those, dtype=torch.float64)
    group.step(20)
    assert list(group.diverged()) == [5]
    assert "by step 20" in group.diverged()[5]
    for number in (2, 5, 6):
        group.drop(number)
    group.step(10)
    paused = group.drop(3)
    group.step(7)
    group.compact()
    assert [member.number for member in group.members] == [0, 1, 4, 7]
    group.step(13)
    group.add(those[3], MemberState.from_dict(decode(*encode(paused.to_dict()))))
    group.step(150)
    assert group.diverged() == {}
    for number in (0, 1, 4, 7):
        assert difference(alone_after(job, those[number], 200), group.state(number)) < 1e-9
    assert difference(alone_after(job, those[3], 180), group.state(3)) < 1e-9


@pytest.mark.parametrize(("job", "params"), [(CNN(), {}), (Recurrent(), {"kind": "gru"}), (MLP(), {"drop": 0.5})])
def test_alone_and_fused_by_turns(job: TrainingJob, params: dict[str, float]) -> None:
    those = members(3, **params)
    group = Fused(job, those, dtype=torch.float64)
    group.step(6)
    alone = Alone(job, those[1], dtype=torch.float64)
    alone.load(group.drop(1))
    alone.step(5)
    other = Fused(job, [those[1]], dtype=torch.float64)
    other.extend([(those[2], group.drop(2))])
    other.drop(1)
    other.extend([(those[1], alone.state())])
    other.step(4)
    assert difference(alone_after(job, those[1], 15), other.state(1)) < 1e-9
    assert difference(alone_after(job, those[2], 10), other.state(2)) < 1e-9


def test_a_wider_member_joins() -> None:
    job = MLP()
    those = members(3, width=[4, 9, 6])
    group = Fused(job, those[:1], dtype=torch.float64)
    group.step(5)
    group.extend([(those[1], None), (those[2], None)])
    group.step(5)
    assert difference(alone_after(job, those[0], 10), group.state(0)) < 1e-9
    assert difference(alone_after(job, those[1], 5), group.state(1)) < 1e-9


def test_reports_are_due_when_each_has_seen_all_samples() -> None:
    those = members(3, batch_size=[50, 25, 16])
    group = Fused(MLP(), those)
    due = [group.advance() for _ in range(6)]
    assert due == [[(0, 1)], [(0, 2), (1, 1)], [(0, 3)], [(0, 4), (1, 2), (2, 1)], [(0, 5)], [(0, 6), (1, 3)]]


def test_a_training_ends() -> None:
    class Short(MLP):
        epochs = 2

    group = Fused(Short(), members(2))
    group.advance()
    assert not group.is_done(0)
    group.advance()
    assert group.is_done(0)
    group.drop(0)
    group.drop(1)
    assert group.members == []
    group.compact()
    group.add(members(3)[2])
    assert [member.number for member in group.members] == [2]
    assert group.advance() == [(2, 1)]


def test_nothing_of_a_neighbour_is_touched_by_numbers_that_are_none() -> None:
    """Bit for bit: the rows of a group with a member that is all NaN, and without."""
    job, those = CNN(), members(3)
    runs = []
    for spoil in (False, True):
        group = Fused(job, those)
        group.step(3)
        if spoil:
            state = group.drop(1)
            bad = {name: torch.full_like(value, torch.nan) for name, value in state.parameters.items()}
            group = Fused(job, those)
            group.step(3)
            for name, view in group._views.items():
                view[1] = bad[name]
        group.step(4)
        runs.append(group.state(2))
    assert difference(*runs) == 0.0
