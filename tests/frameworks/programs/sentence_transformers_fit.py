"""sentence-transformers' trainer."""

from __future__ import annotations

import os

import torch
from datasets import Dataset
from outcome import tell
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.losses import MultipleNegativesRankingLoss
from sentence_transformers.models import Pooling, Transformer
from transformers import BertConfig, BertModel
from words import TEXTS, tokenizer

folder = os.environ["FOLDER"]
torch.manual_seed(0)
BertModel(
    BertConfig(
        vocab_size=64,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
    )
).save_pretrained(folder)
tokenizer().save_pretrained(folder)
model = SentenceTransformer(modules=[Transformer(folder), Pooling(16)], device="cpu")
SentenceTransformerTrainer(
    model=model,
    args=SentenceTransformerTrainingArguments(
        output_dir=folder,
        max_steps=4,
        per_device_train_batch_size=4,
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
    ),
    train_dataset=Dataset.from_dict({"anchor": TEXTS, "positive": TEXTS[::-1]}),
    loss=MultipleNegativesRankingLoss(model),
).train()
tell(model)
