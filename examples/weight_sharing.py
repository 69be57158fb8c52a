"""Weight sharing on scikit-learn's 8x8 digits: a supernet, candidates that inherit its weights, winners trained alone.

    velo sweep examples/weight_sharing.py --sampler sharing:candidates=30,winners=3 --trials 34 --workers 1
"""

from functools import cache

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

import velodrome as velo

EPOCHS_SUPERNET, EPOCHS_TUNED, EPOCHS_ALONE, BATCH_SIZE = 4, 1, 6, 64
CELL = velo.Cell("skip", "conv1x1", "conv3x3", "sep3x3", "avg3x3", nodes=2)
SPACE = velo.Space(net=velo.Net(
    (1, 8, 8),
    stem=velo.Block("conv", width=12),
    body=velo.Repeat(CELL, times=2, between=velo.Block("pool", kind="max", stride=2)),
    head=velo.Block("classifier", classes=10),
))


@cache
def digits(device: str) -> list[torch.Tensor]:
    """Images and labels to train on, images and labels to validate on."""
    split = train_test_split(*load_digits(return_X_y=True), test_size=0.25, random_state=0)
    x_train, y_train, x_val, y_val = (torch.as_tensor(split[i], device=device) for i in (0, 2, 1, 3))
    return [x_train.float().view(-1, 1, 8, 8) / 16, y_train, x_val.float().view(-1, 1, 8, 8) / 16, y_val]


def train_supernet(trial: velo.Trial) -> None:
    """Trains all nets together: each batch trains a fair round of them, one after the other."""
    x, y, _, _ = digits(trial.device)
    supernet, rng = velo.Supernet(SPACE, device=trial.device), np.random.default_rng(trial.seed)
    optimizer = torch.optim.AdamW(supernet.parameters(), lr=0.01)
    num_batches, num_paths = -(-len(x) // BATCH_SIZE), len(velo.fair_paths(SPACE, rng))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 0.01, total_steps=EPOCHS_SUPERNET * num_batches * num_paths)
    first = 0
    if (kept := trial.restore()) is not None:  # it was interrupted
        supernet.load_state_dict(kept["supernet"])
        optimizer.load_state_dict(kept["optimizer"])
        schedule.load_state_dict(kept["schedule"])
        rng.bit_generator.state, first = kept["paths"], trial.restored_step + 1
        torch.set_rng_state(kept["order"])
    for epoch in range(first, EPOCHS_SUPERNET):
        for batch in torch.randperm(len(x)).split(BATCH_SIZE):
            for params in velo.fair_paths(SPACE, rng):
                optimizer.zero_grad()
                loss = nn.functional.cross_entropy(supernet.net(params).train()(x[batch]), y[batch])
                loss.backward()
                optimizer.step()
                schedule.step()
        trial.report(epoch, loss=loss.item())
        trial.checkpoint(epoch, {
            "supernet": supernet.state_dict(), "optimizer": optimizer.state_dict(), "schedule": schedule.state_dict(),
            "paths": rng.bit_generator.state, "order": torch.get_rng_state(),
        })


def train_alone(net: nn.Module, device: str, epochs: int = EPOCHS_ALONE) -> None:
    """Trains one net."""
    x, y, _, _ = digits(device)
    steps = epochs * -(-len(x) // BATCH_SIZE)
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.02, total_steps=steps)
    net.train()
    for _ in range(epochs):
        for batch in torch.randperm(len(x)).split(BATCH_SIZE):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x[batch]), y[batch]).backward()
            optimizer.step()
            schedule.step()


def accuracy_of(net: nn.Module, device: str) -> float:
    """The validation accuracy of a net."""
    _, _, x, y = digits(device)
    with torch.no_grad():
        return (net(x).argmax(1) == y).double().mean().item()


@velo.objective(velo.staged(SPACE), goal="maximize accuracy")
def train(trial: velo.Trial) -> float:
    """Does what the trial's stage says."""
    params = velo.unstaged(trial.params)
    match trial.params["stage"]:
        case "supernet":
            train_supernet(trial)
            raise velo.Pruned("the shared weights are trained")
        case "inherited":
            shared = velo.Supernet.of(SPACE, (trial.restore() or {}).get("supernet"), device=trial.device)
            net = shared.net(params)
            train_alone(net, trial.device, EPOCHS_TUNED)  # weights that many nets shared get used to each other
            trial.report(0, accuracy=accuracy_of(velo.use_batch_statistics(net), trial.device))
            raise velo.Pruned("judged with inherited weights")
    net = SPACE.build(params).to(trial.device)
    train_alone(net, trial.device)
    accuracy = accuracy_of(net.eval(), trial.device)
    trial.report(EPOCHS_ALONE, accuracy=accuracy)
    trial.checkpoint(EPOCHS_ALONE, {"model": net.state_dict()})
    return accuracy
