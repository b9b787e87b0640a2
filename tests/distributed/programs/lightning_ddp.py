"""Training as users of Lightning write it; Lightning starts the second rank itself."""

from __future__ import annotations

import lightning
import torch
from model import WIDTH, make
from torch import Tensor
from torch.utils.data import DataLoader


class Training(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.gpt = make()

    def training_step(self, batch: Tensor, index: int) -> Tensor:
        return self.gpt(batch).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


if __name__ == "__main__":
    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=2,
        strategy="ddp",
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Training(), DataLoader(torch.ones(8, WIDTH), batch_size=2))
