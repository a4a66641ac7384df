"""A Prism and an Oracle on a GPU, in bf16, random weights of the real shapes. Started by tests/bench/run.

`prism` is texts a second by batch, beside transformers' `generate` where a torch that sees the device is there. `oracle` is how much of
what the device's memory can give at most a decode step of one sequence takes up: the weights that a step must read, over the time of a
step, over the speed of a copy on that device, measured in the same run.
"""

import argparse
import json
import statistics
import subprocess
import sys

from deepen import deepened
from engines import FILES, PEER, PYTHON, WORKER, random_model, start
from loads import NEW, drawn_prompts, in_turns
from report import Report

PRISM_GOAL, PRISM_BATCH = 3.0, 64
ORACLE_GOAL = 0.6
# Steps of the longer text beyond those of the shorter one: what encoding takes is in both.
SHORT, LONG = 16, 112
COPIED = 4 << 30


def main():
    parser = argparse.ArgumentParser(prog="tests/bench/run gpu")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--batches", default="1,16,64", help="of the Prism")
    parser.add_argument("--oracle", default="flan-t5-xxl", help="shape: flan-t5-base, flan-t5-large or flan-t5-xxl")
    parser.add_argument("--layers", type=int, help="of the Oracle, instead of the shape's own")
    parser.add_argument("--only", choices=["prism", "oracle"])
    parser.add_argument("--copied", type=int, default=COPIED, help="bytes of the copy that shows how fast memory is")
    args = parser.parse_args()
    report = Report(args.json)
    if args.only != "oracle":
        prism(args, report)
    if args.only != "prism":
        oracle(args, report)


def worker(directory, device, running):
    return start(f"Refract bf16 on {device}", [WORKER, directory, "bf16", 1, 0, running, device])


def prism(args, report):
    batches = [int(n) for n in args.batches.split(",")]
    directory = random_model("bart-base")
    engines = [worker(directory, args.device, max(batches))]
    if sees_gpu():
        engines.append(start("transformers bfloat16", [*PEER, "transformers", directory, "bfloat16", 1, args.device]))
    else:
        print("    SKIPPED, LOUDLY: transformers (no torch here that sees a GPU)", file=sys.stderr)
    engines = [engine for engine in engines if engine]
    for batch in batches:
        prompts = drawn_prompts(batch, 50_265)
        found = in_turns(engines, args.rounds, lambda engine: engine.run(prompts, NEW))
        speed = {name: batch / statistics.median(run["seconds"] for run in runs) for name, runs in found.items()}
        for name, texts in speed.items():
            report.say(f"gpu/prism/B={batch}/{name}", texts, "texts/s", args.rounds)
        ours, *theirs = speed.values()
        if theirs:
            goal = PRISM_GOAL if batch == PRISM_BATCH else None
            report.say(f"gpu/prism/B={batch}/times transformers", ours / theirs[0], "", args.rounds, goal)
    for engine in engines:
        engine.close()


def oracle(args, report):
    one = random_model(args.oracle, 1)
    layers = args.layers or {"flan-t5-base": 12}.get(args.oracle, 24)
    directory = FILES / f"{one.name}-bf16-{layers}"
    if not (directory / "config.json").is_file():
        print(f"    making {directory.name} (random weights, the same in each layer)", file=sys.stderr)
        deepened(one, directory, layers, halves=True)
    engine = worker(directory, args.device, 1)
    if engine is None:
        sys.exit("tests/bench/run: the Oracle does not start on this device")
    [prompt] = drawn_prompts(1, 32_128)
    engine.run([prompt], SHORT)
    rounds = [engine.run([prompt], LONG)["seconds"] - engine.run([prompt], SHORT)["seconds"] for _ in range(args.rounds)]
    engine.close()
    steps = [seconds / (LONG - SHORT) for seconds in rounds]
    copied = subprocess.run([WORKER, "copy", args.device, str(args.copied)], check=True, capture_output=True, text=True)
    limit = json.loads(copied.stdout)["bytes_per_second"]
    read = bytes_a_step(json.loads((directory / "config.json").read_text()))
    report.say("gpu/memory", limit / 1e9, "GB/s read and written", 1)
    report.say(f"gpu/oracle/{args.oracle}, {layers} layers/step", 1e3 * statistics.median(steps), "ms", args.rounds,
               spread=(1e3 * min(steps), 1e3 * max(steps)))
    report.say("gpu/oracle/of the limit of memory", read / statistics.median(steps) / limit, "", args.rounds, ORACLE_GOAL)


def bytes_a_step(config):
    """Weights of two bytes that a decoder reads for one token: keys and values of the encoder's words are there already."""
    width, inner, feed = config["d_model"], config["num_heads"] * config["d_kv"], config["d_ff"]
    gated = config["feed_forward_proj"].startswith("gated-")
    layer = 4 * width * inner + 2 * width * inner + (3 if gated else 2) * width * feed
    return 2 * (config["num_decoder_layers"] * layer + config["vocab_size"] * width)


def sees_gpu():
    probe = "import torch, transformers, sys; sys.exit(not torch.cuda.is_available())"
    return subprocess.run([PYTHON, "-c", probe], stderr=subprocess.DEVNULL, check=False).returncode == 0


main()
