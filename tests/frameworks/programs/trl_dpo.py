"""TRL's direct preference optimization: a reference model beside the one that is trained."""

from __future__ import annotations

import os

from datasets import Dataset
from gpt2 import gpt2
from outcome import tell
from trl import DPOConfig, DPOTrainer
from words import TEXTS, tokenizer

model = gpt2()
rows = [
    {"prompt": text[:12], "chosen": " " + text[12:24], "rejected": " " + text[24:]}
    for text in TEXTS
]
DPOTrainer(
    model=model,
    ref_model=gpt2(),
    args=DPOConfig(
        output_dir=os.environ["FOLDER"],
        per_device_train_batch_size=2,
        max_steps=4,
        max_length=32,
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        disable_tqdm=True,
    ),
    train_dataset=Dataset.from_list(rows),
    processing_class=tokenizer(),
).train()
tell(model)
