"""Ultralytics: one epoch of a small classifier over pictures in folders."""

from __future__ import annotations

import os
from pathlib import Path

import numpy
import torch
from outcome import tell
from PIL import Image
from ultralytics import YOLO

torch.set_num_threads(1)
folder = Path(os.environ["FOLDER"])
random = numpy.random.default_rng(0)
for part in ("train", "val"):
    for name in ("cat", "dog"):
        place = folder / part / name
        place.mkdir(parents=True, exist_ok=True)
        for number in range(8):
            pixels = random.integers(0, 255, (32, 32, 3), dtype=numpy.uint8)
            Image.fromarray(pixels).save(place / f"{number}.png")
model = YOLO("yolov8n-cls.yaml")
model.train(
    data=str(folder),
    epochs=2,
    imgsz=32,
    batch=4,
    nbs=4,
    workers=0,
    device="cpu",
    plots=False,
    val=True,
    save=False,
    verbose=False,
    amp=False,
    seed=0,
    project=str(folder),
)
tell(model.trainer.model)
