"""Drives workers of several engines in turns and compares them. Started by tests/bench/run; the peers live in peer.py.

All engines get the same weights, prompts and number of threads (one), and are pinned to one core, so a busy machine slows
them alike; medians over rounds A B A B … are compared. Time is processor time, which what else the machine does hardly
touches, except where waiting is what is measured; wall time stands beside it.
"""

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
from pathlib import Path

from engines import FILES, close, peers, random_model, refract, whole_xxl
from loads import NEW, SOURCE, drawn_prompts, in_turns
from report import Report, chart

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "services/refract/demo"
# By batch, on a processor with AMX; on any other.
GOALS = {1: 2.0, 4: 2.5, 16: 3.0, 32: 3.0}
GOAL_WITHOUT_AMX = 1.5


def spent(results, key="cpu"):
    return [r[key] for r in results]


def ratio(slow, fast, key="cpu"):
    """How many times faster, round by round: neighbours in time are compared."""
    each = sorted(s[key] / f[key] for s, f in zip(slow, fast))
    return statistics.median(each), (each[0], each[-1])


def side_by_side(args, report, what, engines, cases, pairs):
    """Rates of every engine in every case (name, prompts, beams), ratios of `pairs` (ours, theirs, goals by case), peaks."""
    rates = {}
    for case, prompts, beams in cases:
        found = in_turns(engines, args.rounds, lambda engine: engine.run(prompts, NEW, beams))
        for engine in engines:
            each = [len(prompts) / t for t in spent(found[engine.name])]
            rates[engine.name, case] = statistics.median(each)
            wall = statistics.median(len(prompts) / t for t in spent(found[engine.name], "seconds"))
            report.say(
                f"{what}/{case}/{engine.name}", statistics.median(each), "texts/s", args.rounds,
                spread=(min(each), max(each)), note="" if args.json else f"   wall {wall:.2f}",
            )
        for ours, theirs, goals in pairs:
            if ours in found and theirs in found:
                value, spread = ratio(found[theirs], found[ours])
                report.say(f"{what}/{case}/{ours} : {theirs}", value, "times", args.rounds, goals.get(case), spread=spread)
        for engine in engines:
            report.say(f"{what}/{case}/{engine.name}/peak", found[engine.name][-1]["peak_mib"], "MiB", 1)
    if args.chart:
        chart(
            args.chart, "Texts a second on one core",
            f"{args.shape}, random weights, {SOURCE} tokens in, exactly {NEW} out; by processor time, measured in turns",
            [e.name for e in engines], [case for case, *_ in cases], rates,
        )
    close(engines)


PAIRS = [
    ("Refract int8", "CTranslate2 int8"), ("Refract int8", "ONNX Runtime int8"), ("Refract f32", "CTranslate2 float32"),
    ("Refract f32", "ONNX Runtime float32"), ("Refract f32", "transformers float32"),
]


def prism(args, report):
    args.shape = "bart-base"
    directory = random_model(args.shape)
    engines = [refract("Refract int8", directory), refract("Refract f32", directory, "f32")]
    engines = [engine for engine in engines if engine] + peers(directory)
    amx = bool(engines) and "amx" in engines[0].about["ready"]
    goals = {f"b{batch}": goal if amx else GOAL_WITHOUT_AMX for batch, goal in GOALS.items()}
    pairs = [(*pair, goals if pair == PAIRS[0] else {}) for pair in PAIRS]
    side_by_side(args, report, "prism", engines, [(f"b{n}", drawn_prompts(n, 50_265), 1) for n in args.batches], pairs)


def oracle(args, report):
    directory = random_model(args.shape)
    engines = [refract("Refract int8", directory), refract("Refract f32", directory, "f32")]
    engines = [engine for engine in engines if engine] + peers(directory)
    cases = [
        (f"b{batch}/{name}", drawn_prompts(batch, 32_128), beams)
        for batch in args.batches for name, beams in (("greedy", 1), ("5 beams", 5))
    ]
    best_of(args, report, engines[0])
    side_by_side(args, report, "oracle", engines, cases, [(*pair, {}) for pair in PAIRS])


def best_of(args, report, engine, n=4):
    """A labeller's candidates: n samples of one prompt, which is encoded once, against n runs."""
    [prompt] = drawn_prompts(1, 32_128, 400)
    together, apart = [], []
    for number in range(args.rounds + 1):
        once = engine.run([prompt], NEW, samples=n)
        each = engine.run([prompt] * n, NEW, samples=1, together=1)
        if number:
            together.append(once)
            apart.append(each)
    for name, results in (("one encoding", together), (f"{n} runs", apart)):
        report.say(f"oracle/best of {n}/{engine.name}, {name}", statistics.median(spent(results)), "s", args.rounds)
    value, spread = ratio(apart, together)
    report.say(f"oracle/best of {n}/one encoding : {n} runs", value, "times", args.rounds, spread=spread)


def batching(args, report):
    """Lengths as they come: 40 to 400 tokens in, 10 to 150 out. Static batches are what a batch of tensors is (every prompt as
    long as the longest, every row decoded until the last one ends, the next batch only then), on the same engine; what a row
    says beyond its own length counts for nothing. `leaving` is the ablation: no padding, rows that end leave at once."""
    directory = random_model("bart-base")
    engine = refract("Refract int8", directory, running=args.running)
    draw = random.Random(7)
    prompts = [drawn_prompts(1, 50_265, draw.randint(40, 400))[0] for _ in range(96)]
    new = [draw.randint(10, 150) for _ in prompts]
    ways = {"continuous": {}}
    for size in (16, 32):
        ways[f"static {size}"] = {"together": size, "padded": True}
        ways[f"static {size}, leaving"] = {"together": size}
    found = {way: [] for way in ways}
    for number in range(args.rounds + 1):
        for way, how in ways.items():
            result = engine.run(prompts, new, **how)
            if number:
                found[way].append(result)
    for way, results in found.items():
        rates = [r["tokens"] / r["cpu"] for r in results]
        report.say(f"batching/all at once/{way}", statistics.median(rates), "tokens/s", args.rounds, spread=(min(rates), max(rates)))
    best = lambda ways: min(ways, key=lambda way: statistics.median(spent(found[way])))
    usual = best(("static 16", "static 32"))
    for theirs, goal in ((usual, 2.0), (best(("static 16, leaving", "static 32, leaving")), None)):
        value, spread = ratio(found[theirs], found["continuous"])
        report.say(f"batching/all at once/continuous : {theirs}", value, "times", args.rounds, goal, spread=spread)

    # As they arrive, at random: what is the load under which the slowest wait no longer than with static batches?
    most = len(prompts) / statistics.median(spent(found[usual], "seconds"))
    gaps = [draw.expovariate(1.0) for _ in prompts]
    p99 = lambda result: sorted(result["latencies"])[-1 - len(prompts) // 100]
    half = lambda result: statistics.median(result["latencies"])

    def arriving(rate, **how):
        at, arrive = 0.0, []
        for gap in gaps:
            at += gap / rate
            arrive.append(at)
        return engine.run(prompts, new, arrive=arrive, **how)

    load = 0.7 * most
    static = min((arriving(load, **ways[way]) for way in ("static 16", "static 32")), key=p99)
    report.say("batching/arriving/static", load, "texts/s", 1)
    report.say("batching/arriving/static/p50", half(static), "s", len(prompts))
    report.say("batching/arriving/static/p99", p99(static), "s", len(prompts))
    held = 0.0
    for times in (1.0, 1.5, 2.0, 2.5, 3.0):
        result = arriving(times * load)
        report.say(f"batching/arriving/continuous at {times} times the load/p50", half(result), "s", len(prompts))
        report.say(f"batching/arriving/continuous at {times} times the load/p99", p99(result), "s", len(prompts))
        if p99(result) > p99(static):
            break
        held = times
    report.say("batching/arriving/load at no worse p99, continuous : static", held, "times", 1, 2.0)
    if args.chart:
        values = {(way, "all at once"): statistics.median(r["tokens"] / r["cpu"] for r in results) for way, results in found.items()}
        subtitle = "BART-base shape, int8, one core, 40 to 400 tokens in and 10 to 150 out"
        chart(args.chart, "Tokens a second", subtitle, list(ways), ["all at once"], values, "{:.0f}")
    close([engine])


def told(users, directory):
    """Prompts of the shipped Prism for so many users, one item each."""
    file = FILES / f"prompts-{users}.jsonl"
    subprocess.run(
        [os.environ["REFRACT_BIN"], "eval", "explanations", "--users", str(users), "--items", "1", "--show", "0",
         "--prompts", file], check=True, stdout=subprocess.DEVNULL, env=os.environ | {"REFRACT_ASSETS": str(SHIPPED)},
    )
    return [json.loads(line)["ids"] for line in file.read_text().splitlines()]


def speculation(args, report):
    """The shipped Prism one text at a time, as texts come to it: the first third finds an engine that has written nothing yet
    (cold), the rest one that has. The same prompts, a fresh process each time. `with` knows what the model usually says
    (phrases.tsv, from texts for users that are not among these); `from nothing` does not."""
    prompts = told(450, SHIPPED / "prism")
    cut = len(prompts) // 3
    bare = FILES / "prism-without-phrases"
    shutil.rmtree(bare, ignore_errors=True)
    shutil.copytree(SHIPPED / "prism", bare, ignore=shutil.ignore_patterns("phrases.tsv"))
    ways = {"without": (bare, 0), "with": (SHIPPED / "prism", args.drafts), "from nothing": (bare, args.drafts)}
    found = {}
    for _ in range(args.rounds):
        for name, (directory, drafts) in ways.items():
            engine = refract(name, directory, args.precision, drafts)
            for part, texts in (("cold", prompts[:cut]), ("warm", prompts[cut:])):
                found.setdefault((part, name), []).append(engine.run(texts, 96, exact=False, together=1))
            close([engine])
    same = all(
        r["ids"] == found[part, "without"][0]["ids"] for (part, _), results in found.items() for r in results
    )
    report.say("speculation/identical texts", 100.0 * same, "percent", len(prompts), 100.0)
    values = {}
    for (part, name), results in found.items():
        count = len(results[0]["ids"])
        values[name, part] = count / statistics.median(spent(results))
        report.say(f"speculation/{part}/{name}/steps", results[0]["steps"], "steps", count)
        report.say(f"speculation/{part}/{name}", values[name, part], "texts/s", args.rounds)
    for part in ("cold", "warm"):
        drafted = found[part, "with"][0]
        right = 100.0 * drafted["right"] / max(drafted["drafted"], 1)
        report.say(f"speculation/{part}/guesses right", right, "percent", drafted["drafted"])
        for name, goal in (("with", 1.5), ("from nothing", None)):
            value, spread = ratio(found[part, "without"], found[part, name])
            report.say(f"speculation/{part}/{name} : without", value, "times", args.rounds, goal, spread=spread)
    if args.chart:
        chart(args.chart, "Texts a second", "The shipped Prism, one text at a time, one core", list(ways),
              ["cold", "warm"], values, "{:.0f}")


def paper_ratio(args, report):
    """The paper's protocol: one text at a time, 5 beams, 150 tokens. Beside it the load that each meets when it serves: greedy, as long as
    explanations and facts are, a Prism 16 at a time and an Oracle, which is asked once for each pair, 4. The whole of XXL's shape where
    there is room for it; otherwise its 24 + 24 layers from samples of 1 + 1 and 2 + 2: layers are alike and far larger than any cache."""
    new, beams, source = 150, 5, 400
    together = {True: 16, False: 4}
    student = refract("Prism, BART-base shape, int8", random_model("bart-base"))
    whole = whole_xxl()
    if whole:
        teachers = [refract("Oracle, FLAN-T5-XXL's shape, int8", whole)]
    else:
        teachers = [refract(f"Oracle, {n} + {n} layers of XXL's shape, int8", random_model("flan-t5-xxl", n)) for n in (1, 2)]
    engines = [student, *teachers]
    vocab = lambda e: 50_265 if e is student else 32_128
    jobs = {e.name: drawn_prompts(1, vocab(e), source) for e in engines}
    loads = {e.name: drawn_prompts(together[e is student], vocab(e)) for e in engines}
    rounds = max(args.rounds // 2, 1)
    found = in_turns(engines, rounds, lambda e: e.run(jobs[e.name], new, beams))
    middle = {e.name: statistics.median(spent(found[e.name])) for e in engines}
    served = in_turns(engines, rounds, lambda e: e.run(loads[e.name], NEW))
    each_served = {e.name: statistics.median(spent(served[e.name])) / len(loads[e.name]) for e in engines}
    # Memory at work: weights, attention memory, buffers; what loading took besides is not in it.
    memory = {e.name: found[e.name][-1]["resident_mib"] for e in engines}
    for engine in engines:
        each = spent(found[engine.name])
        report.say(f"ratio/{engine.name}", middle[engine.name], "s", len(each), spread=(min(each), max(each)))
        report.say(f"ratio/{engine.name}/memory", memory[engine.name], "MiB", 1)
        many = len(loads[engine.name])
        report.say(f"ratio/{engine.name}/served, {many} at a time, greedy, {SOURCE} in, {NEW} out", each_served[engine.name], "s a text", rounds)
    if whole:
        oracle, of_oracle = "Oracle", lambda of: of[teachers[0].name]
    else:
        one, two = (s.name for s in teachers)
        oracle, of_oracle = "Oracle scaled", lambda of: of[one] + 23 * (of[two] - of[one])
        report.say("ratio/Oracle, SCALED UP to 24 + 24 layers", of_oracle(middle), "s", rounds)
        report.say("ratio/Oracle, SCALED UP to 24 + 24 layers/memory", of_oracle(memory), "MiB", 1)
    report.say(f"ratio/latency, {oracle} : Prism", of_oracle(middle) / middle[student.name], "times", rounds, 24.0)
    report.say(f"ratio/processor a text as served, {oracle} : Prism", of_oracle(each_served) / each_served[student.name], "times", rounds)
    report.say(f"ratio/memory, {oracle} : Prism", of_oracle(memory) / memory[student.name], "times", 1, 10.0)
    if args.chart:
        values = {("Prism", "seconds"): middle[student.name], (oracle, "seconds"): of_oracle(middle)}
        chart(args.chart, "Seconds for one text", f"Batch 1, 5 beams, {source} tokens in, {new} out, int8, one core",
              ["Prism", oracle], ["seconds"], values)
    close(engines)


def main():
    parser = argparse.ArgumentParser(prog="tests/bench/run")
    whats = {"prism": prism, "oracle": oracle, "batching": batching, "speculation": speculation, "ratio": paper_ratio}
    parser.add_argument("what", choices=whats)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each")
    parser.add_argument("--batches", type=lambda s: [int(n) for n in s.split(",")], help="of prism and oracle")
    parser.add_argument("--shape", default="flan-t5-base", choices=["flan-t5-base", "flan-t5-large"], help="of oracle")
    parser.add_argument("--running", type=int, default=32, help="sequences decoded together, of batching")
    parser.add_argument("--drafts", type=int, default=8, help="tokens guessed ahead, of speculation")
    parser.add_argument("--precision", default="f32", choices=["f32", "int8"], help="of speculation")
    parser.add_argument("--chart", metavar="FILE.svg")
    args = parser.parse_args()
    args.batches = args.batches or ([1, 4] if args.what == "oracle" else [1, 4, 16, 32])
    whats[args.what](args, Report(args.json))


main()
