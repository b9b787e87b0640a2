"""The smallest GPT-2 of transformers."""

from __future__ import annotations

import torch
from transformers import GPT2Config, GPT2LMHeadModel


def gpt2() -> GPT2LMHeadModel:
    """Return one with random weights, always the same."""
    torch.manual_seed(0)
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=64,
            n_positions=64,
            n_embd=16,
            n_layer=2,
            n_head=2,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=1,
        )
    )
