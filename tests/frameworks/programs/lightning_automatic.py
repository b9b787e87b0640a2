"""Lightning's automatic optimization with a validation set."""

from __future__ import annotations

from lightning_parts import DATA, AutoEncoder, trainer
from outcome import tell

module = AutoEncoder()
trainer().fit(module, DATA, DATA)
tell(module)
