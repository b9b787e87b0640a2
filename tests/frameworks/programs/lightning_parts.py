"""What the Lightning programs share: data, a module called from `training_step`, a quiet trainer."""

from __future__ import annotations

from typing import Any

import lightning
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
DATA = DataLoader(TensorDataset(torch.randn(16, 8)), batch_size=4)


class AutoEncoder(lightning.LightningModule):
    """The one of Lightning's own introduction."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.enc = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 3))
        self.dec = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 8))

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        """Return the loss."""
        return nn.functional.mse_loss(self.dec(self.enc(batch[0])), batch[0])

    def validation_step(self, batch: list[Tensor], index: int) -> None:
        """Log the loss."""
        self.log("loss", nn.functional.mse_loss(self.dec(self.enc(batch[0])), batch[0]))

    def configure_optimizers(self) -> Any:
        """Return the optimizer."""
        return torch.optim.Adam(self.parameters())


def trainer(**options: Any) -> lightning.Trainer:
    """Return one that prints and keeps nothing."""
    return lightning.Trainer(
        accelerator="cpu",
        max_epochs=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )
