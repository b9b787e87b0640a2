"""PEFT's LoRA in a loop as its examples have it."""

from __future__ import annotations

import torch
from gpt2 import gpt2
from outcome import tell
from peft import LoraConfig, get_peft_model

model = get_peft_model(gpt2(), LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
for _ in range(5):
    ids = torch.randint(0, 64, (2, 8))
    loss = model(input_ids=ids, labels=ids).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
tell(model)
