"""Makes trajectory.json: twelve optimiser steps of a tiny BART in PyTorch, for `train/finetune/tests.rs`.

    pip install torch==2.15.0 transformers==5.23.0 safetensors==0.8.0
    python make.py            # reads services/shared/model/tests/fixtures/bart-plain

Each step accumulates two batches weighted by their tokens, with label smoothing, clips the gradients' global norm to 1 and
applies AdamW (betas 0.9 and 0.98, decay 0.01 on matrices only) at a constant rate; no dropout.
"""

import json
import pathlib
import random

import torch
from transformers import BartForConditionalGeneration

HERE = pathlib.Path(__file__).parent
MODEL = HERE.parents[3] / "shared/model/tests/fixtures/bart-plain"
SMOOTHING, RATE, STEPS = 0.1, 3e-3, 12

torch.manual_seed(0)
rng = random.Random(5)
model = BartForConditionalGeneration.from_pretrained(MODEL, dtype=torch.float32).eval()
pad, start = model.config.pad_token_id, model.config.decoder_start_token_id


def example():
    words = [rng.randrange(4, model.config.vocab_size) for _ in range(rng.randint(2, 9))]
    target = [0] + list(reversed(words[: rng.randint(1, len(words))])) + [2]
    return {"source": [0] + words + [2], "target": target}


def padded(rows, filler):
    width = max(map(len, rows))
    return torch.tensor([row + [filler] * (width - len(row)) for row in rows])


def total_loss(batch):
    sources = padded([e["source"] for e in batch], pad)
    labels = padded([e["target"] for e in batch], -100)
    shifted = padded([[start] + e["target"][:-1] for e in batch], pad)
    mask = padded([[1] * len(e["source"]) for e in batch], 0)
    logits = model(input_ids=sources, attention_mask=mask, decoder_input_ids=shifted).logits
    return torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), labels.flatten(), ignore_index=-100, label_smoothing=SMOOTHING, reduction="sum")


decayed = [p for p in model.parameters() if p.dim() > 1]
plain = [p for p in model.parameters() if p.dim() <= 1]
optimiser = torch.optim.AdamW([{"params": decayed, "weight_decay": 0.01}, {"params": plain, "weight_decay": 0.0}],
                              lr=RATE, betas=(0.9, 0.98), eps=1e-8)
pool = [example() for _ in range(12)]
steps, losses = [], []
for _ in range(STEPS):
    batches = [rng.sample(pool, 3), rng.sample(pool, 4)]
    tokens = sum(len(e["target"]) for batch in batches for e in batch)
    optimiser.zero_grad()
    value = 0.0
    for batch in batches:
        loss = total_loss(batch) / tokens
        loss.backward()
        value += loss.item()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimiser.step()
    steps.append(batches)
    losses.append(value)

norms = {}
for name, parameter in model.named_parameters():
    norms[name] = parameter.norm().item()
out = {"steps": steps, "smoothing": SMOOTHING, "rate": RATE, "losses": losses, "norms": norms}
(HERE / "trajectory.json").write_text(json.dumps(out) + "\n")
print(losses)
