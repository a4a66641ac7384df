"""Refract's training beside PyTorch's: the same BART, the same first weights, the same examples, one core each, in turns.
Started by tests/bench/run train. With --peer it is the PyTorch side itself.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SHAPE = {"width": 192, "layers": 3, "vocabulary": 8000, "batch": 16, "source": 160, "target": 48}
WARM_UP, STEPS, RATE, SMOOTHING = 3, 12, 1e-3, 0.1
GOAL = 0.8


def drawn(batch, length, vocabulary, number):
    """The formula of services/refract/src/train/speed.rs."""
    return [[4 + (i * 7919 + j * 104_729 + number * 1_299_709) % (vocabulary - 4) for j in range(length)] for i in range(batch)]


def peer(directory):
    import torch
    from transformers import BartForConditionalGeneration

    torch.set_num_threads(1)
    model = BartForConditionalGeneration.from_pretrained(directory, dtype=torch.float32)
    model.train()
    matrices = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.98), eps=1e-8)
    start = torch.full((SHAPE["batch"], 1), model.config.decoder_start_token_id)
    losses = []
    for step in range(WARM_UP + STEPS):
        if step == WARM_UP:
            begun = time.perf_counter()
        sources = torch.tensor(drawn(SHAPE["batch"], SHAPE["source"], SHAPE["vocabulary"], 2 * step))
        labels = torch.tensor(drawn(SHAPE["batch"], SHAPE["target"], SHAPE["vocabulary"], 2 * step + 1))
        logits = model(input_ids=sources, decoder_input_ids=torch.cat([start, labels[:, :-1]], 1), use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), label_smoothing=SMOOTHING)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        losses.append(loss.item())
    seconds = time.perf_counter() - begun
    tokens = STEPS * SHAPE["batch"] * (SHAPE["source"] + SHAPE["target"])
    print(json.dumps({"rate": tokens / seconds, "first": losses[0], "last": losses[-1], "about": f"PyTorch {torch.__version__}"}))


def pinned(command):
    pin = ["taskset", "-c", str(max(os.sched_getaffinity(0)))] if Path("/usr/bin/taskset").exists() else []
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    done = subprocess.run([*pin, *command], capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        sys.exit(f"tests/bench/run: {command[0]} failed: {done.stderr[-2000:]}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def ours(dropout, export=None):
    command = [os.environ["REFRACT_BIN"], "train", "speed", "--json", "--dropout", dropout]
    for name, value in (SHAPE | {"warm-up": WARM_UP, "steps": STEPS, "smoothing": SMOOTHING, "learning-rate": RATE}).items():
        command += [f"--{name}", str(value)]
    rows = {row["name"].removeprefix("train/speed/"): row["value"] for row in pinned(command + (["--export", export] if export else []))}
    return {"rate": rows["tokens_per_second"], "first": rows["loss/first"], "last": rows["loss/last"], "about": "Refract"}


def say(args, name, value, unit, n, goal=None, spread=None):
    holds = None if goal is None else value >= goal
    if args.json:
        line = {"name": name, "value": round(value, 4), "unit": unit, "goal": goal, "holds": holds, "n": n}
        print(json.dumps(line | ({"spread": [round(s, 4) for s in spread]} if spread else {})), flush=True)
        return
    shown = f" [{spread[0]:.2f}, {spread[1]:.2f}]" if spread else ""
    against = "" if goal is None else f"   goal ≥ {goal}: {'holds' if holds else 'MISSED'}"
    print(f"{name:<46} {value:>10.3f} {unit}{shown}{against}", flush=True)


def main():
    parser = argparse.ArgumentParser(prog="tests/bench/run train")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peer")
    args = parser.parse_args()
    if args.peer:
        return peer(args.peer)
    with tempfile.TemporaryDirectory() as directory:
        # Without dropout both must take the same steps; this run also warms the disk's cache.
        ours("0", directory)
        config = Path(directory, "config.json")
        shape = json.loads(config.read_text())
        config.write_text(json.dumps(shape | {"dropout": 0.0}))
        python = [os.environ["REFRACT_BENCH_PYTHON"], __file__, "--peer", directory]
        same = [ours("0"), pinned(python)[-1]]
        apart = max(abs(same[0][key] - same[1][key]) / same[1][key] for key in ("first", "last"))
        say(args, "train/losses apart, without dropout", apart, "relative", WARM_UP + STEPS)
        if apart > 1e-3:
            sys.exit(f"tests/bench/run: the two do not take the same steps: {same}")
        config.write_text(json.dumps(shape | {"dropout": 0.1}))
        found = {"Refract": [], "PyTorch": []}
        for _ in range(args.rounds):
            found["Refract"].append(ours("0.1")["rate"])
            found["PyTorch"].append(pinned(python)[-1]["rate"])
    for name, rates in found.items():
        say(args, f"train/{name}", statistics.median(rates), "tokens/s", args.rounds, spread=(min(rates), max(rates)))
    ratios = sorted(a / b for a, b in zip(found["Refract"], found["PyTorch"]))
    say(args, "train/Refract : PyTorch", statistics.median(ratios), "times", args.rounds, GOAL, (ratios[0], ratios[-1]))


main()
