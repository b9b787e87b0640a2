"""FSDP2 on two ranks."""

from __future__ import annotations

import torch
import torch.distributed as dist
from outcome import tell
from torch import nn
from torch.distributed.fsdp import fully_shard

dist.init_process_group("gloo")
torch.manual_seed(0)
model = nn.Sequential(*(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True) for _ in range(2)))
mesh = dist.device_mesh.init_device_mesh("cpu", (2,))
for layer in model:
    fully_shard(layer, mesh=mesh)
fully_shard(model, mesh=mesh)
optimizer = torch.optim.AdamW(model.parameters())
for _ in range(4):
    model(torch.randn(2, 4, 16)).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()
local = nn.Module()
for name, parameter in model.named_parameters():
    local.register_buffer(name.replace(".", "_"), parameter.to_local().detach())
tell(local)
dist.destroy_process_group()
