"""Train a small character-level GPT on the source code of Python's standard library.

An ordinary training script: it knows nothing of tracing. To see each of its steps as a trace:

    OTEL_TORCH_MODULES_ENABLED=true python train_gpt.py

Needs torch; with `rich` installed and a terminal it shows a progress bar.
"""

from __future__ import annotations

import argparse
import sysconfig
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, Dataset

ACCUMULATION = 2
BLOCKS = 4
CONTEXT = 128
HEADS = 4

VOCABULARY = "\n" + "".join(map(chr, range(32, 127))) + "\N{REPLACEMENT CHARACTER}"

Report = Callable[[int, float, float], None]


class CausalSelfAttention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.c_attn = nn.Linear(width, 3 * width)
        self.c_proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        query, key, value = (
            part.view(batch, length, HEADS, width // HEADS).transpose(1, 2)
            for part in self.c_attn(x).split(width, dim=2)
        )
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.c_proj(mixed.transpose(1, 2).reshape(batch, length, width))


class MLP(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.c_fc = nn.Linear(width, 4 * width)
        self.gelu = nn.GELU()
        self.c_proj = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.c_proj(self.gelu(self.c_fc(x)))


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = CausalSelfAttention(width)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = MLP(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class GPT(nn.Module):
    """A decoder-only transformer. The last of its blocks trades memory for time by checkpointing."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.wte = nn.Embedding(len(VOCABULARY), width)
        self.wpe = nn.Embedding(CONTEXT, width)
        self.drop = nn.Dropout(0.1)
        self.h = nn.ModuleList(Block(width) for _ in range(BLOCKS))
        self.ln_f = nn.LayerNorm(width)
        self.lm_head = nn.Linear(width, len(VOCABULARY), bias=False)
        self.apply(self._initialize)
        self.lm_head.weight = self.wte.weight

    @staticmethod
    def _initialize(module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.drop(self.wte(tokens) + self.wpe(positions))
        for block in self.h[:-1]:
            x = block(x)
        x = checkpoint(self.h[-1], x, use_reentrant=False)
        return self.lm_head(self.ln_f(x))


class Excerpts(Dataset[tuple[Tensor, Tensor]]):
    """Random stretches of a text as (tokens, the same one character later); number `i` is always the same."""

    def __init__(self, text: str, count: int, seed: int) -> None:
        code = {character: number for number, character in enumerate(VOCABULARY)}
        unknown = len(VOCABULARY) - 1
        self.tokens = torch.tensor([code.get(character, unknown) for character in text])
        generator = torch.Generator().manual_seed(seed)
        self.starts = torch.randint(
            len(self.tokens) - CONTEXT - 1, (count,), generator=generator
        ).tolist()

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        start = self.starts[index]
        stretch = self.tokens[start : start + CONTEXT + 1]
        return stretch[:-1], stretch[1:]


def standard_library_text(characters: int) -> str:
    """Return the first `characters` of the standard library's modules, joined in the order of their names."""
    text = ""
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        text += path.read_text(encoding="utf-8", errors="replace")
        if len(text) >= characters:
            break
    return text[:characters]


def train(arguments: argparse.Namespace, report: Report) -> list[float]:
    """Train for `--steps` steps, tell `report` of each, and return the losses."""
    torch.manual_seed(arguments.seed)
    # The model is too small for more, and threads that wait for one another on a busy machine cost most of the time.
    torch.set_num_threads(1)
    model = GPT(arguments.width)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    excerpts = Excerpts(
        standard_library_text(1_000_000),
        arguments.steps * ACCUMULATION * arguments.batch_size,
        arguments.seed,
    )
    batches = iter(
        DataLoader(excerpts, batch_size=arguments.batch_size, num_workers=arguments.workers)
    )
    losses = []
    started = time.perf_counter()
    for step in range(arguments.steps):
        total = 0.0
        for _ in range(ACCUMULATION):
            tokens, targets = next(batches)
            logits = model(tokens)
            loss = functional.cross_entropy(logits.flatten(0, 1), targets.flatten()) / ACCUMULATION
            loss.backward()
            total += loss.item()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(total)
        report(step + 1, total, (step + 1) / (time.perf_counter() - started))
    return losses


@contextmanager
def progress(steps: int) -> Iterator[Report]:
    """Show how far training has come: a bar on a terminal that `rich` can draw on, else lines."""
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    except ImportError:
        drawable = False
    else:
        drawable = Console().is_terminal
    if not drawable:
        yield lambda step, loss, rate: _print_line(steps, step, loss, rate)
        return
    columns = (
        TextColumn("training"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[status]}"),
    )
    with Progress(*columns) as bar:
        task = bar.add_task("training", total=steps, status="")
        yield lambda step, loss, rate: bar.update(
            task, completed=step, status=f"loss {loss:.3f}  {rate:.1f} steps/s"
        )


def _print_line(steps: int, step: int, loss: float, rate: float) -> None:
    if step == 1 or step % 10 == 0 or step == steps:
        print(f"step {step}/{steps}  loss {loss:.3f}  {rate:.1f} steps/s", flush=True)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=40, help="optimizer steps")
    parser.add_argument("--batch-size", type=int, default=16, help="sequences per micro-batch")
    parser.add_argument("--width", type=int, default=128, help="embedding width, a multiple of 4")
    parser.add_argument("--workers", type=int, default=0, help="data-loader processes")
    parser.add_argument("--seed", type=int, default=0, help="of the weights and the batches")
    parser.add_argument("--losses", type=Path, metavar="FILE", help="write one loss per step here")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    with progress(arguments.steps) as report:
        losses = train(arguments, report)
    if arguments.losses:
        arguments.losses.write_text("".join(f"{loss!r}\n" for loss in losses), encoding="utf-8")


if __name__ == "__main__":
    main()
