"""Lightning's manual optimization."""

from __future__ import annotations

from lightning_parts import DATA, AutoEncoder, trainer
from outcome import tell
from torch import Tensor


class Manual(AutoEncoder):
    """Steps the optimizer itself."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        """Return the loss."""
        optimizer = self.optimizers()
        optimizer.zero_grad()
        loss = super().training_step(batch, index)
        self.manual_backward(loss)
        optimizer.step()
        return loss


module = Manual()
trainer().fit(module, DATA, DATA)
tell(module)
