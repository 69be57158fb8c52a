"""Hand-written digits: a small torch classifier on scikit-learn's 8x8 images, and the space of its hyperparameters.

This one file is a whole experiment:
    velo sweep examples/digits.py --trials 40 --workers 2 --sampler tpe --scheduler asha
"""

from functools import cache

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

import velodrome as velo

EPOCHS = 15
ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU, "tanh": nn.Tanh}

SPACE = velo.Space(
    width=velo.Int(16, 256, log=True),
    depth=velo.Int(1, 3),
    dropout=velo.Float(0.0, 0.5, step=0.05),
    activation=velo.Choice(*ACTIVATIONS),
    batch_size=velo.Choice(32, 64, 128),
    lr=velo.Float(1e-3, 1e-1, log=True),
    weight_decay=velo.Float(1e-6, 1e-2, log=True),
    optimizer=velo.Choice(adam={"beta1": velo.Float(0.8, 0.99)}, sgd={"momentum": velo.Float(0.0, 0.99)}),
)


@cache  # a worker runs many trials and loads the data once
def digits(device: str) -> list[torch.Tensor]:
    """Images and labels to train on, images and labels to validate on: the same split for every trial."""
    split = train_test_split(*load_digits(return_X_y=True), test_size=0.25, random_state=0)
    x_train, x_val, y_train, y_val = (torch.as_tensor(part, device=device) for part in split)
    mean, std = x_train.mean(0), x_train.std(0) + 1e-6  # of the training images alone
    return [((x_train - mean) / std).float(), y_train, ((x_val - mean) / std).float(), y_val]


def build_model(params: dict) -> nn.Sequential:
    """A multilayer perceptron: 64 pixels in, 10 classes out."""
    layers, width_in, width = [], 64, params["width"]
    for _ in range(params["depth"]):
        layers += [nn.Linear(width_in, width), ACTIVATIONS[params["activation"]](), nn.Dropout(params["dropout"])]
        width_in = width
    return nn.Sequential(*layers, nn.Linear(width, 10))


def build_optimizer(params: dict, model: nn.Module) -> torch.optim.Optimizer:
    """The optimiser that was chosen; ``optimizer.beta1`` is there only where it is Adam."""
    shared = {"lr": params["lr"], "weight_decay": params["weight_decay"]}
    if params["optimizer"] == "adam":
        return torch.optim.AdamW(model.parameters(), betas=(params["optimizer.beta1"], 0.999), **shared)
    return torch.optim.SGD(model.parameters(), momentum=params["optimizer.momentum"], **shared)


@velo.objective(SPACE, goal="maximize accuracy")
def train(trial: velo.Trial) -> float:
    """Trains one configuration and returns its validation accuracy."""
    torch.manual_seed(trial.seed)
    x_train, y_train, x_val, y_val = digits(trial.device)
    model = build_model(trial.params).to(trial.device)
    optimizer = build_optimizer(trial.params, model)
    for epoch in range(1, EPOCHS + 1):
        model.train()
        loss_sum = 0.0
        for batch in torch.randperm(len(x_train)).split(trial.params["batch_size"]):
            loss = nn.functional.cross_entropy(model(x_train[batch]), y_train[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss_sum += loss.item() * len(batch)
        model.eval()
        logits = model(x_val).detach()
        accuracy = (logits.argmax(1) == y_val).double().mean().item()
        val_loss = nn.functional.cross_entropy(logits, y_val).item()
        trial.report(epoch, accuracy=accuracy, loss=loss_sum / len(x_train), val_loss=val_loss)
        if trial.should_stop:  # the scheduler compared this trial with the others
            break
    return accuracy
