"""One of two workers trains: first through remote calls, with the engine of distributed autograd, then by itself."""

from __future__ import annotations

import json
import os

import torch
from model import STEPS, WIDTH, make
from torch.distributed import autograd, rpc


def main() -> None:
    torch.set_num_threads(1)
    rank = int(os.environ["RANK"])
    rpc.init_rpc(f"worker{rank}", rank=rank, world_size=2)
    if rank == 0:
        model, losses = make(), []
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for step in range(2 * STEPS):
            if step < STEPS:
                with autograd.context() as context:
                    y = model(torch.ones(2, WIDTH))
                    loss = rpc.rpc_sync("worker1", torch.add, args=(y, y)).square().mean()
                    autograd.backward(context, [loss])
                    gradients = autograd.get_gradients(context)
                for parameter in model.parameters():
                    parameter.grad = gradients[parameter]
            else:
                loss = model(torch.ones(2, WIDTH)).square().mean()
                loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
        print(json.dumps(losses), flush=True)
    rpc.shutdown()


main()
