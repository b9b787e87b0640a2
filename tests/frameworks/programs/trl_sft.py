"""TRL's supervised fine-tuning."""

from __future__ import annotations

import os

from datasets import Dataset
from gpt2 import gpt2
from outcome import tell
from trl import SFTConfig, SFTTrainer
from words import TEXTS, tokenizer

model = gpt2()
SFTTrainer(
    model=model,
    args=SFTConfig(
        output_dir=os.environ["FOLDER"],
        per_device_train_batch_size=2,
        max_steps=5,
        max_length=32,
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        disable_tqdm=True,
    ),
    train_dataset=Dataset.from_list([{"text": text} for text in TEXTS]),
    processing_class=tokenizer(),
).train()
tell(model)
