"""skorch: forward and backward inside the optimizer's step."""

from __future__ import annotations

import numpy
import torch
from outcome import tell
from skorch import NeuralNetClassifier
from torch import nn

torch.manual_seed(0)
random = numpy.random.default_rng(0)
inputs = random.normal(size=(40, 8)).astype("float32")
labels = (inputs.sum(axis=1) > 0).astype("int64")
net = NeuralNetClassifier(
    nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2), nn.Softmax(dim=-1)),
    max_epochs=2,
    batch_size=8,
    verbose=0,
)
net.fit(inputs, labels)
tell(net.module_)
