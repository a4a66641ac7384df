"""The exact best 100 of a million vectors, one query at a time on one core: Refract's ranker beside faiss. Started by tests/bench/run.

Vectors are random, with lengths as uneven as items are popular; both engines read the same files and take turns. faiss runs in a
process of its own, this file with `--peer`.
"""

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path

import numpy

from engines import close, start
from report import Report

SEED, GOAL = 7, 1.0


def made(folder, rows, width, queries):
    """Files of vectors and queries, once."""
    files = folder / f"vectors-{rows}x{width}.f32", folder / f"queries-{queries}x{width}.f32"
    if not all(file.exists() for file in files):
        draw = numpy.random.default_rng(SEED)
        vectors = draw.standard_normal((rows, width), dtype=numpy.float32)
        vectors *= draw.lognormal(0.0, 0.3, (rows, 1)).astype(numpy.float32)
        vectors.tofile(files[0])
        draw.standard_normal((queries, width), dtype=numpy.float32).tofile(files[1])
    return files


def peer(vectors, queries, width):
    """Answers as the worker of Refract does."""
    import faiss

    faiss.omp_set_num_threads(1)
    begun = time.perf_counter()
    index = faiss.IndexFlatIP(width)
    index.add(numpy.fromfile(vectors, numpy.float32).reshape(-1, width))
    asked = numpy.fromfile(queries, numpy.float32).reshape(-1, width)
    print(json.dumps({"ready": f"faiss {faiss.__version__}", "load_s": time.perf_counter() - begun}), flush=True)
    for line in sys.stdin:
        k = json.loads(line)["k"]
        seconds, ids = [], []
        for query in asked:
            begun = time.perf_counter()
            _, found = index.search(query[None], k)
            seconds.append(time.perf_counter() - begun)
            ids.append(found[0].tolist())
        print(json.dumps({"seconds": seconds, "ids": ids}), flush=True)


def main():
    parser = argparse.ArgumentParser(prog="tests/bench/run ranker")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each")
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--k", type=int, default=100)
    args = parser.parse_args()
    report = Report(args.json)
    vectors, queries = made(Path(os.environ["REFRACT_BENCH_FILES"]), args.items, args.width, 50)
    alone = {"RAYON_NUM_THREADS": "1"}
    commands = {
        "Refract": [os.environ["REFRACT_BENCH_RETRIEVAL"], vectors, queries, args.width],
        "faiss IndexFlatIP": [sys.executable, __file__, "--peer", vectors, queries, args.width],
    }
    started = {name: start(name, command, alone) for name, command in commands.items()}
    workers = {name: worker for name, worker in started.items() if worker}
    found = {name: [] for name in workers}
    for number in range(args.rounds + 1):
        for name, worker in workers.items():
            answer = worker.ask({"k": args.k})
            if number:
                found[name].append(answer)
    times = {name: [statistics.median(answer["seconds"]) for answer in answers] for name, answers in found.items()}
    what = f"ranker/best {args.k} of {args.items} x {args.width}"
    for name, each in times.items():
        report.say(f"{what}/{name}", 1e3 * statistics.median(each), "ms", args.rounds, spread=(1e3 * min(each), 1e3 * max(each)))
    if len(workers) == 2:
        ours, theirs = times.values()
        each = sorted(their / our for our, their in zip(ours, theirs))
        report.say(f"{what}/speed, Refract : faiss", statistics.median(each), "times", args.rounds, GOAL, spread=(each[0], each[-1]))
        pairs = zip(*(answers[0]["ids"] for answers in found.values()))
        same = [len(set(a) & set(b)) / args.k for a, b in pairs]
        report.say(f"{what}/the same items", statistics.mean(same), "share", len(same))
    close(workers.values())


if sys.argv[1:2] == ["--peer"]:
    peer(sys.argv[2], sys.argv[3], int(sys.argv[4]))
else:
    main()
