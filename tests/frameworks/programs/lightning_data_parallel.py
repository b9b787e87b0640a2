"""Lightning with DDP on two ranks and a validation set."""

from __future__ import annotations

from lightning_parts import DATA, AutoEncoder, trainer
from outcome import tell

if __name__ == "__main__":
    module = AutoEncoder()
    trainer(devices=2, strategy="ddp").fit(module, DATA, DATA)
    tell(module)
