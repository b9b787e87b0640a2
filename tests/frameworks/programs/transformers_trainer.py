"""Transformers' Trainer: micro-batches of two, an evaluation in between."""

from __future__ import annotations

import os

from gpt2 import gpt2
from outcome import tell
from transformers import Trainer, TrainingArguments
from words import TEXTS, tokenizer

words = tokenizer()
rows = [
    {"input_ids": words(text)["input_ids"], "labels": words(text)["input_ids"]} for text in TEXTS
]
model = gpt2()
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        output_dir=os.environ["FOLDER"],
        per_device_train_batch_size=2,
        gradient_accumulation_steps=2,
        max_steps=6,
        eval_strategy="steps",
        eval_steps=3,
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
    ),
    train_dataset=rows,
    eval_dataset=rows[:4],
)
trainer.train()
tell(model)
