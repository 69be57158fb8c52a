"""An architecture to search: a small convolutional net for scikit-learn's 8x8 digits, with the learning rate beside it.

    velo sweep examples/architecture.py --trials 30 --sampler predictor
    velo show architecture --architecture
"""

from functools import cache

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

import velodrome as velo

EPOCHS = 6
BATCH_SIZE = 128

CELL = velo.Cell("skip", "conv1x1", "conv3x3", "sep3x3", nodes=2)
SPACE = velo.Space(
    lr=velo.Float(1e-2, 1e-1, log=True),
    net=velo.Net(
        (1, 8, 8),
        stem=velo.Block("conv", width=velo.Choice(8, 16)),
        body=velo.Repeat(CELL, times=velo.Int(1, 2), between=velo.Block("pool", kind="max", stride=2)),
        head=velo.Block("classifier", classes=10),
    ),
    constraints="params < 20000",
)


@cache  # a worker runs many trials and loads the data once
def digits(device: str) -> list[torch.Tensor]:
    """Images and labels to train on, images and labels to validate on: the same split for every trial."""
    split = train_test_split(*load_digits(return_X_y=True), test_size=0.25, random_state=0)
    x_train, y_train, x_val, y_val = (torch.as_tensor(split[i], device=device) for i in (0, 2, 1, 3))
    return [x_train.float().view(-1, 1, 8, 8) / 16, y_train, x_val.float().view(-1, 1, 8, 8) / 16, y_val]


def fit(net: nn.Module, lr: float, data: list[torch.Tensor], epochs: int = EPOCHS) -> float:
    """Trains a net and returns its validation accuracy."""
    x_train, y_train, x_val, y_val = data
    steps = epochs * -(-len(x_train) // BATCH_SIZE)
    optimizer = torch.optim.AdamW(net.parameters(), lr=lr, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
    net.train()
    for _ in range(epochs):
        for batch in torch.randperm(len(x_train)).split(BATCH_SIZE):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x_train[batch]), y_train[batch]).backward()
            optimizer.step()
            schedule.step()
    net.eval()
    with torch.no_grad():
        return (net(x_val).argmax(1) == y_val).double().mean().item()


@velo.objective(SPACE, goal="maximize accuracy")
def train(trial: velo.Trial) -> dict[str, float]:
    """Builds and trains one architecture; its size is a metric beside its accuracy."""
    net = SPACE.build(trial.params).to(trial.device)
    size = SPACE.graph(trial.params).total()
    accuracy = fit(net, trial.params["lr"], digits(trial.device))
    trial.report(EPOCHS, accuracy=accuracy)
    trial.checkpoint(EPOCHS, {"model": net.state_dict()})
    return {"accuracy": accuracy, "params": size.params, "flops": size.flops}
