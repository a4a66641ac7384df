"""Drives workers of several engines in turns and compares them. Started by tests/bench/run; the peers live in peer.py.

All engines get the same weights, prompts and number of threads (one), and are pinned to one core, so a busy machine slows
them alike; medians over rounds A B A B … are compared. Time is processor time, which what else the machine does hardly
touches; wall time stands beside it.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILES = Path(os.environ["REFRACT_BENCH_FILES"])
WORKER, PYTHON = os.environ["REFRACT_BENCH_WORKER"], os.environ["REFRACT_BENCH_PYTHON"]
PEER = [PYTHON, str(Path(__file__).parent / "peer.py")]
SHIPPED = ROOT / "services/refract/demo"
SOURCE, NEW = 160, 48
GOALS = {1: 2.0, 4: 2.5, 16: 3.0, 32: 3.0}


class Engine:
    """A worker process on one core."""

    def __init__(self, name, command):
        pin = ["taskset", "-c", str(max(os.sched_getaffinity(0)))] if Path("/usr/bin/taskset").exists() else []
        environment = os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
        self.name = name
        self.process = subprocess.Popen(
            [*pin, *map(str, command)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.about = self._read()
        print(f"    {name}: {self.about['ready']}, loaded in {self.about['load_s']:.1f} s", file=sys.stderr)

    def _read(self):
        line = self.process.stdout.readline()
        if not line:
            raise ChildProcessError(self.name)
        return json.loads(line)

    def run(self, prompts, new, beams=1, exact=True, together=0):
        new = new if isinstance(new, list) else [new]
        job = {"prompts": prompts, "new": new, "beams": beams, "exact": exact, "together": together}
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        return self._read()

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def start(name, command):
    try:
        return Engine(name, command)
    except (ChildProcessError, OSError) as error:
        print(f"    SKIPPED, LOUDLY: {name} does not start here ({error})", file=sys.stderr)
        return None


def refract(name, directory, precision="int8", drafts=0):
    return start(name, [WORKER, directory, precision, 1, drafts])


def has(module):
    probe = f"import importlib.util, sys; sys.exit(importlib.util.find_spec('{module}') is None)"
    found = subprocess.run([PYTHON, "-c", probe], check=False).returncode == 0
    if not found:
        print(f"    SKIPPED, LOUDLY: {module} is not there", file=sys.stderr)
    return found


def random_model(*shape):
    directory = FILES / "-".join(["random", *map(str, shape)])
    if not (directory / "config.json").is_file():
        print(f"    making {directory.name} (random weights)", file=sys.stderr)
        name, *layers = map(str, shape)
        subprocess.run([WORKER, "random", name, directory, *layers], check=True)
    return directory


def converted(directory, kind):
    out = FILES / f"{directory.name}-ctranslate2-{kind}"
    if not (out / "model.bin").is_file():
        subprocess.run([*PEER, "convert", directory, out, kind], check=True, stdout=sys.stderr)
    return out


def onnx_runtime():
    print(
        "    SKIPPED, LOUDLY: ONNX Runtime: it runs exported graphs, and no exporter for encoder–decoders with cached keys works "
        "with this transformers",
        file=sys.stderr,
    )


class Report:
    def __init__(self, as_json):
        self.as_json = as_json

    def say(self, name, value, unit, n, goal=None, at_most=False, spread=None, note=""):
        holds = None if goal is None else (value <= goal if at_most else value >= goal)
        if self.as_json:
            line = {"name": name, "value": round(value, 4), "unit": unit, "goal": goal, "holds": holds, "n": n}
            print(json.dumps(line | ({"spread": [round(s, 4) for s in spread]} if spread else {})), flush=True)
            return
        shown = f" [{spread[0]:.2f}, {spread[1]:.2f}]" if spread else ""
        against = "" if goal is None else f"   goal {'≤' if at_most else '≥'} {goal}: {'holds' if holds else 'MISSED'}"
        print(f"{name:<46} {value:>10.2f} {unit}{shown}{against}{note}", flush=True)


def in_turns(engines, rounds, job):
    """Results of each engine over the rounds; one round before is not counted."""
    found = {engine.name: [] for engine in engines}
    for number in range(rounds + 1):
        for engine in engines:
            result = job(engine)
            if number:
                found[engine.name].append(result)
    return found


def spent(results, key="cpu"):
    return [r[key] for r in results]


def ratio(slow, fast, key="cpu"):
    """How many times faster, round by round: neighbours in time are compared."""
    each = sorted(s[key] / f[key] for s, f in zip(slow, fast))
    return statistics.median(each), (each[0], each[-1])


def drawn_prompts(count, vocab, source=SOURCE):
    return [[4 + (i * 7919 + j * 104_729) % (vocab - 4) for j in range(source)] for i in range(count)]


def prism(args, report):
    directory = random_model("bart-base")
    engines = [refract("Refract int8", directory), refract("Refract f32", directory, "f32")]
    if has("ctranslate2") and has("transformers"):
        for kind in ("int8", "float32"):
            engines.append(start(f"CTranslate2 {kind}", [*PEER, "ctranslate2", converted(directory, kind), kind, 1]))
    if has("transformers"):
        engines.append(start("transformers f32", [*PEER, "transformers", directory, "float32", 1]))
    onnx_runtime()
    engines = [engine for engine in engines if engine]
    rates = {}
    for batch in args.batches:
        prompts = drawn_prompts(batch, 50_265)
        found = in_turns(engines, args.rounds, lambda engine: engine.run(prompts, NEW))
        for engine in engines:
            times = [batch / t for t in spent(found[engine.name])]
            rates[engine.name, batch] = statistics.median(times)
            wall = statistics.median(batch / t for t in spent(found[engine.name], "seconds"))
            report.say(
                f"prism/b{batch}/{engine.name}", statistics.median(times), "explanations/s", args.rounds,
                spread=(min(times), max(times)), note="" if args.json else f"   wall {wall:.2f}",
            )
        for ours, theirs, goal in (
            ("Refract int8", "CTranslate2 int8", GOALS.get(batch)),
            ("Refract f32", "CTranslate2 float32", None),
            ("Refract f32", "transformers f32", None),
        ):
            if ours in found and theirs in found:
                value, spread = ratio(found[theirs], found[ours])
                report.say(f"prism/b{batch}/{ours} : {theirs}", value, "times", args.rounds, goal, spread=spread)
        for engine in engines:
            report.say(f"prism/b{batch}/{engine.name}/peak", found[engine.name][-1]["peak_mib"], "MiB", 1)
    if args.chart:
        chart(args.chart, [e.name for e in engines], args.batches, rates)
    close(engines)


def oracle(args, report):
    directory = SHIPPED / "oracle"
    with open(directory / "config.json") as file:
        vocab = json.load(file)["vocab_size"]
    prompts = drawn_prompts(16, vocab)
    engines = [refract("Refract int8", directory), refract("Refract f32", directory, "f32")]
    if has("transformers"):
        engines.append(start("transformers f32", [*PEER, "transformers", directory, "float32", 1]))
    engines = [engine for engine in engines if engine]
    for batch in (1, 16):
        found = in_turns(engines, args.rounds, lambda engine: engine.run(prompts[:batch], NEW))
        for engine in engines:
            times = [batch / t for t in spent(found[engine.name])]
            report.say(
                f"oracle/b{batch}/{engine.name}", statistics.median(times), "texts/s", args.rounds,
                spread=(min(times), max(times)),
            )
        for other in engines[1:]:
            value, spread = ratio(found[other.name], found["Refract int8"])
            report.say(f"oracle/b{batch}/Refract int8 : {other.name}", value, "times", args.rounds, spread=spread)
    close(engines)


def batching(args, report):
    directory = random_model("bart-base")
    engine = refract("Refract int8", directory)
    draw = random.Random(7)
    prompts = [drawn_prompts(1, 50_265, draw.randint(40, 400))[0] for _ in range(64)]
    new = [draw.randint(10, 150) for _ in prompts]
    # Static batches of so many, in the order of arrival; the better of two sizes is the one to beat.
    found = {size: [] for size in (0, 16, 32)}
    for number in range(args.rounds + 1):
        for size in found:
            result = engine.run(prompts, new, together=size)
            if number:
                found[size].append(result)
    p99 = lambda result: sorted(result["latencies"])[-1]
    for size, results in found.items():
        name = f"static {size}" if size else "continuous"
        rates = [r["tokens"] / r["cpu"] for r in results]
        report.say(f"batching/{name}", statistics.median(rates), "tokens/s", args.rounds, spread=(min(rates), max(rates)))
        report.say(f"batching/{name}/p99", statistics.median(map(p99, results)), "s", args.rounds)
    best = min((16, 32), key=lambda size: statistics.median(spent(found[size])))
    value, spread = ratio(found[best], found[0])
    report.say(f"batching/continuous : static {best}", value, "times", args.rounds, 2.0, spread=spread)
    close([engine])


def speculation(args, report):
    prompts_file = FILES / "prompts.jsonl"
    users = "150"
    subprocess.run(
        [os.environ["REFRACT_BIN"], "eval", "explanations", "--users", users, "--items", "1", "--show", "0",
         "--prompts", prompts_file], check=True, stdout=subprocess.DEVNULL, env=os.environ | {"REFRACT_ASSETS": str(SHIPPED)},
    )
    prompts = [json.loads(line)["ids"] for line in prompts_file.read_text().splitlines()]
    directory = SHIPPED / "prism"
    found = {}
    for number in range(args.rounds):
        # Fresh processes: the second time round, everything would be known.
        for name, drafts in (("without", 0), ("with", 8)):
            engine = refract(name, directory, "f32", drafts)
            found.setdefault(name, []).append(engine.run(prompts, 96, exact=False, together=1))
            close([engine])
    same = all(r["ids"] == found["without"][0]["ids"] for results in found.values() for r in results)
    report.say("speculation/identical texts", 100.0 * same, "percent", len(prompts), 100.0)
    for name, results in found.items():
        report.say(f"speculation/{name}/steps", results[0]["steps"], "steps", len(prompts))
        report.say(f"speculation/{name}", len(prompts) / statistics.median(spent(results)), "explanations/s", args.rounds)
    right = 100.0 * found["with"][0]["right"] / max(found["with"][0]["drafted"], 1)
    report.say("speculation/guesses right", right, "percent", found["with"][0]["drafted"])
    value, spread = ratio(found["without"], found["with"])
    report.say("speculation/with : without", value, "times", args.rounds, 1.5, spread=spread)


def paper_ratio(args, report):
    """Latency of XXL's 24 + 24 layers from samples of 1 + 1 and 2 + 2: layers are alike and far larger than any cache."""
    new, beams, source = 150, 5, 400
    student = refract("Prism, BART-base shape, int8", random_model("bart-base"))
    samples = [refract(f"Oracle, {n} + {n} layers of XXL's shape, int8", random_model("t5-xxl", n)) for n in (1, 2)]
    engines = [student, *samples]
    jobs = {e.name: drawn_prompts(1, 50_265 if e is student else 32_128, source) for e in engines}
    found = in_turns(engines, max(args.rounds // 2, 1), lambda e: e.run(jobs[e.name], new, beams))
    middle = {e.name: statistics.median(spent(found[e.name])) for e in engines}
    memory = {e.name: found[e.name][-1]["peak_mib"] for e in engines}
    for engine in engines:
        report.say(f"ratio/{engine.name}", middle[engine.name], "s", len(found[engine.name]))
        report.say(f"ratio/{engine.name}/peak", memory[engine.name], "MiB", 1)
    one, two = (s.name for s in samples)
    scaled = lambda of: of[one] + 23 * (of[two] - of[one])
    report.say("ratio/Oracle, SCALED UP to 24 + 24 layers", scaled(middle), "s", 1)
    report.say("ratio/Oracle, SCALED UP to 24 + 24 layers/peak", scaled(memory), "MiB", 1)
    report.say("ratio/latency, Oracle scaled : Prism", scaled(middle) / middle[student.name], "times", 1, 24.0)
    report.say("ratio/memory, Oracle scaled : Prism", scaled(memory) / memory[student.name], "times", 1, 10.0)
    close(engines)


def close(engines):
    for engine in engines:
        engine.close()


COLOURS = ["#2f6f4f", "#8fbf9f", "#b5532a", "#e0a880", "#8a8a8a"]


def chart(file, names, batches, rates):
    """Bars of explanations a second, a group for each batch."""
    width, bar, gap, base, top = 860, 26, 42, 330, 70
    tallest = max(rates.values())
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} 400" font-family="sans-serif" font-size="13">',
        f'<rect width="{width}" height="400" fill="#ffffff"/>',
        '<text x="20" y="28" font-size="17" font-weight="bold">Explanations a second on one core</text>',
        f'<text x="20" y="48" fill="#555">BART-base shape, random weights, {SOURCE} tokens in, exactly {NEW} out, greedy; by '
        "processor time, measured in turns</text>",
    ]
    left = 30
    for batch in batches:
        for i, name in enumerate(names):
            height = (base - top) * rates[name, batch] / tallest
            x, y = left + i * bar, base - height
            parts.append(
                f'<rect x="{x}" y="{y:.1f}" width="{bar - 3}" height="{height:.1f}" fill="{COLOURS[i % len(COLOURS)]}"/>'
                f'<text x="{x + bar / 2 - 1}" y="{y - 4:.1f}" font-size="9.5" text-anchor="middle">{rates[name, batch]:.1f}</text>'
            )
        middle = left + len(names) * bar / 2
        parts.append(f'<text x="{middle}" y="{base + 18}" text-anchor="middle">batch {batch}</text>')
        left += len(names) * bar + gap
    for i, name in enumerate(names):
        x = 30 + i * 160
        parts.append(
            f'<rect x="{x}" y="368" width="12" height="12" fill="{COLOURS[i % len(COLOURS)]}"/>'
            f'<text x="{x + 17}" y="379">{name}</text>'
        )
    Path(file).write_text("\n".join(parts) + "\n</svg>\n")
    print(f"    chart in {file}", file=sys.stderr)


def main():
    parser = argparse.ArgumentParser(prog="tests/bench/run")
    whats = {"prism": prism, "oracle": oracle, "batching": batching, "speculation": speculation, "ratio": paper_ratio}
    parser.add_argument("what", choices=whats)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=lambda s: [int(n) for n in s.split(",")], default=[1, 4, 16, 32])
    parser.add_argument("--chart")
    args = parser.parse_args()
    whats[args.what](args, Report(args.json))


main()
