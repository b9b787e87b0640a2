"""A tokenizer and texts that need no network."""

from __future__ import annotations

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import PreTrainedTokenizerFast

WORDS = [f"w{number}" for number in range(60)]
TEXTS = [" ".join(WORDS[(start * 7 + step * 3) % 60] for step in range(12)) for start in range(16)]


def tokenizer() -> PreTrainedTokenizerFast:
    """Return one that knows `WORDS`."""
    known = {word: number for number, word in enumerate(["<pad>", "<eos>", "<unk>", *WORDS])}
    words = Tokenizer(WordLevel(known, unk_token="<unk>"))
    words.pre_tokenizer = Whitespace()
    made = PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>"
    )
    made.chat_template = "{% for message in messages %}{{ message['content'] }} {% endfor %}"
    return made
