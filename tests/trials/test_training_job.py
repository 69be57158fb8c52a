"""What a training job declares, and what is said of mistakes in it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import velodrome as velo
from tests.trials.fused.jobs import MLP, Whole, members
from velodrome.errors import UsageError
from velodrome.trials.fused.alone import Alone
from velodrome.trials.fused.member import Member, MemberState
from velodrome.trials.optimizers import rate_at
from velodrome.trials.state_codec import decode, encode
from velodrome.trials.training_job import length_of

X, Y = torch.zeros(10, 3), torch.zeros(10, dtype=torch.int64)


@pytest.mark.parametrize(("make", "message"), [
    (lambda: velo.Data(train=[X, Y], validation=(X,)), "train is no tuple of tensors.*a list of Tensor, Tensor"),
    (lambda: velo.Data(train=(X, Y.numpy()), validation=(X,)), "a tuple of Tensor, ndarray"),
    (lambda: velo.Data(train=(X, Y), validation=(X, Y[:3])), "validation have no common length.*10, 3"),
    (lambda: velo.Data(train=(X[:0],), validation=(X,)), "train have no common length"),
    (lambda: velo.SGD(lr=-1.0), "SGD: lr makes no sense.*-1.0"),
    (lambda: velo.Adam(lr=0.1, beta1=1.0), "beta1 makes no sense"),
    (lambda: velo.SGD(lr=0.1, nesterov=True), "needs a momentum"),
    (lambda: velo.RMSprop(lr=0.1, alpha="x"), "alpha makes no sense.*'x'"),
    (lambda: velo.AdamW(lr=0.1, schedule=0.5), "a schedule is a function"),
])
def test_mistakes_are_named(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(UsageError, match=f"(?s){message}"):
        make()


def test_schedules() -> None:
    cosine = velo.Cosine(warmup=0.1, floor=0.2)
    assert [cosine(done) for done in (0.0, 0.05, 0.1, 0.55, 1.0)] == pytest.approx([0.0, 0.5, 1.0, 0.6, 0.2])
    linear = velo.Linear(warmup=0.5)
    assert [linear(done) for done in (0.25, 0.5, 0.75, 1.0)] == pytest.approx([0.5, 1.0, 0.5, 0.0])
    decay = velo.StepDecay(at=(0.3, 0.6), factor=0.1)
    assert [decay(done) for done in (0.0, 0.3, 0.9)] == pytest.approx([1.0, 0.1, 0.01])
    assert rate_at(velo.SGD(lr=2.0, schedule=lambda done: 1.0 - done), 5, 10) == 1.0


class Steps(MLP):
    epochs = None
    steps = 25
    report_every = 10


def test_length_in_epochs_and_in_steps() -> None:
    epochs = length_of(MLP(), {"batch_size": 16}, 50)
    assert (epochs.steps_per_epoch, epochs.steps_per_report, epochs.num_steps) == (4, 4, 4000)
    assert [epochs.reported(step) for step in (4, 8)] == [1, 2]
    steps = length_of(Steps(), {"batch_size": 16}, 50)
    assert (steps.steps_per_epoch, steps.steps_per_report, steps.num_reports) == (4, 10, 3)
    assert steps.reported(20) == 20
    assert length_of(MLP(), {"batch_size": 99}, 50).batch_size == 50


@pytest.mark.parametrize(("attributes", "message"), [
    ({"epochs": None}, "needs either epochs or steps"), ({"steps": 3}, "needs either epochs or steps"),
    ({"epochs": 0}, "epochs makes no sense"), ({"batch_size": lambda self, params: 0.5}, "batch_size.*makes no sense"),
])
def test_lengths_that_make_no_sense(attributes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        length_of(type("Job", (MLP,), attributes)(), {}, 50)


@pytest.mark.parametrize(("attributes", "message"), [
    ({"data": lambda self: 3}, "Job.data returned no velo.Data"),
    ({"model": lambda self, params: 3}, "Job.model made no torch.nn.Module"),
    ({"optimizer": lambda self, params: torch.optim.Adam}, "Job.optimizer returned none"),
    ({"loss": lambda self, model, batch, params: model(batch[0])}, "Job.loss returned no loss"),
    ({"metrics": lambda self, model, batch: {"a": 1.0}}, "Job.metrics: a is no figure"),
])
def test_what_a_job_returns_is_looked_at(attributes: dict[str, Any], message: str) -> None:
    job = type("Job", (MLP,), attributes)()

    def train() -> None:
        training = Alone(job, members(1)[0])
        training.step()
        training.evaluate()

    with pytest.raises(UsageError, match=message):
        train()


def test_data_is_asked_for_once() -> None:
    asked = []

    class Counting(MLP):
        def data(self) -> velo.Data:
            asked.append(1)
            return super().data()

    job = Counting()
    assert job.dataset() is job.dataset()
    assert job.dataset(dtype=torch.float64).train[0].dtype is torch.float64
    assert job.dataset(dtype=torch.float64).train[1].dtype is torch.int64
    assert len(asked) == 1


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "rmsprop"])
def test_a_training_goes_on_bit_for_bit(optimizer: str) -> None:
    member = Member(0, {"lr": 0.01, "drop": 0.3, "optimizer": optimizer, "momentum": 0.9, "clip": 1.0}, 7)
    whole, first, second = (Alone(MLP(), member) for _ in range(3))
    whole.step(11)
    first.step(6)
    second.load(MemberState.from_dict(decode(*encode(first.state().to_dict()))))
    second.step(5)
    for name, value in whole.state().parameters.items():
        assert torch.equal(value, second.state().parameters[name])
    assert whole.evaluate() == second.evaluate()


def test_metrics_or_the_loss_of_the_validation_data() -> None:
    training = Alone(Whole(), members(1)[0])
    assert list(training.evaluate()) == ["loss"]
    assert training.advance() == 1
    found = training.evaluate()
    assert list(found) == ["loss", "train_loss"]
    with torch.no_grad():
        x, y = training.data.validation
        assert found["loss"] == pytest.approx(float(nn.functional.cross_entropy(training.model.eval()(x), y)), rel=1e-6)


def test_a_training_that_leaves_the_finite_numbers_says_so() -> None:
    training = Alone(MLP(), Member(0, {"lr": 1e30, "optimizer": "sgd"}, 1))
    assert training.diverged() == ""
    training.step(8)
    assert "by step 8" in training.diverged()
    assert not math.isfinite(training.evaluate()["train_loss"])
