"""Ranks that the program starts itself, with `torch.multiprocessing.spawn`. Arguments: a free port."""

from __future__ import annotations

import os
import sys

import torch
from model import make, train
from torch import distributed, multiprocessing
from torch.nn.parallel import DistributedDataParallel

RANKS = 2


def main(rank: int, port: str) -> None:
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
    distributed.init_process_group("gloo", rank=rank, world_size=RANKS)
    train(DistributedDataParallel(make()))
    distributed.barrier()
    distributed.destroy_process_group()


if __name__ == "__main__":
    multiprocessing.spawn(main, args=(sys.argv[1],), nprocs=RANKS)
