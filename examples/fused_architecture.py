"""An architecture as a training job: nets of one structure are trained together, as one batched model.

    velo sweep examples/fused_architecture.py --trials 64 --fuse 16
    velo show fused_architecture --architecture

Depth, activation and norm make the structure; widths and learning rates differ within a group.
"""

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

import velodrome as velo


class Digits(velo.TrainingJob):
    """A chain of dense layers on scikit-learn's 8x8 images: 64 pixels in, 10 classes out."""

    space = velo.Space(
        lr=velo.Float(3e-3, 3e-2, log=True),
        net=velo.Net(
            (64,),
            body=velo.Repeat(velo.Block(
                "dense", width=velo.Int(48, 127, log=True), norm=velo.Choice("none", "batch"),
                act=velo.Choice("relu", "gelu"),
            ), times=velo.Int(1, 2), shared=True),
            head=velo.Block("classifier", classes=10),
        ),
        constraints="params < 30000",
    )
    goal = "maximize accuracy"
    epochs = 8

    def data(self):
        """Images and labels: the same split for every trial, scaled by the training images alone."""
        x_train, x_val, y_train, y_val = map(
            torch.as_tensor, train_test_split(*load_digits(return_X_y=True), test_size=0.25, random_state=0)
        )
        mean, std = x_train.mean(0), x_train.std(0) + 1e-6
        return velo.Data(
            train=(((x_train - mean) / std).float(), y_train), validation=(((x_val - mean) / std).float(), y_val)
        )

    def model(self, params):
        return self.space.build(params)

    def batch_size(self, params):
        return 64

    def loss(self, model, batch, params):
        x, y = batch
        return nn.functional.cross_entropy(model(x), y, reduction="none")

    def optimizer(self, params):
        return velo.AdamW(lr=params["lr"], weight_decay=1e-3, schedule=velo.Cosine())

    def metrics(self, model, batch):
        x, y = batch
        return {"accuracy": (model(x).argmax(1) == y).float()}
