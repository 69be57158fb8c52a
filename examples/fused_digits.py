"""Hand-written digits as a training job: many trials of it are trained together, as one batched model.

This one file is a whole experiment:
    velo sweep examples/fused_digits.py --trials 256 --sampler random
"""

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

import velodrome as velo


class Digits(velo.TrainingJob):
    """A multilayer perceptron on scikit-learn's 8x8 images: 64 pixels in, 10 classes out.

    In float64, which such small networks hardly notice: rounding then moves no image from one class to another, and
    the leaderboard is the same to the last place whether trials are trained together or not (--fuse off).
    """

    space = velo.Space(
        width=velo.Int(8, 32, log=True),
        dropout=velo.Float(0.0, 0.5, step=0.05),
        batch_size=velo.Choice(16, 32),
        lr=velo.Float(3e-4, 2e-2, log=True),
        weight_decay=velo.Float(1e-6, 1e-2, log=True),
    )
    goal = "maximize accuracy"
    epochs = 10

    def data(self):
        """Images and labels: the same split for every trial, scaled by the training images alone."""
        x_train, x_val, y_train, y_val = map(
            torch.as_tensor, train_test_split(*load_digits(return_X_y=True), test_size=0.25, random_state=0)
        )
        mean, std = x_train.mean(0), x_train.std(0) + 1e-6
        return velo.Data(train=((x_train - mean) / std, y_train), validation=((x_val - mean) / std, y_val))

    def model(self, params):
        width = params["width"]
        return nn.Sequential(
            nn.Linear(64, width), nn.ReLU(), nn.Dropout(params["dropout"]),
            nn.Linear(width, width), nn.ReLU(), nn.Dropout(params["dropout"]),
            nn.Linear(width, 10),
        ).double()

    def loss(self, model, batch, params):
        x, y = batch
        return nn.functional.cross_entropy(model(x), y, reduction="none")

    def optimizer(self, params):
        return velo.AdamW(lr=params["lr"], weight_decay=params["weight_decay"], schedule=velo.Cosine())

    def metrics(self, model, batch):
        x, y = batch
        return {"accuracy": (model(x).argmax(1) == y).float()}
