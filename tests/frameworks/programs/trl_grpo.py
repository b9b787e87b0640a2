"""TRL's GRPO: generates before it trains."""

from __future__ import annotations

import os

from datasets import Dataset
from gpt2 import gpt2
from outcome import tell
from trl import GRPOConfig, GRPOTrainer
from words import TEXTS, tokenizer


def reward(completions: list[str], **_: object) -> list[float]:
    """Prefer long ones."""
    return [float(len(set(completion))) for completion in completions]


model = gpt2()
GRPOTrainer(
    model=model,
    reward_funcs=reward,
    args=GRPOConfig(
        output_dir=os.environ["FOLDER"],
        per_device_train_batch_size=4,
        num_generations=4,
        max_completion_length=8,
        max_steps=4,
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        disable_tqdm=True,
    ),
    train_dataset=Dataset.from_list([{"prompt": text[:12]} for text in TEXTS]),
    processing_class=tokenizer(),
).train()
tell(model)
