"""The best 100 of a million vectors, one query at a time on one core: Refract's ranker beside faiss (exact) and usearch (a graph, HNSW,
at equal recall). Started by tests/bench/run.

Vectors are random, with lengths as uneven as items are popular: `unordered` ones point anywhere, which is the hardest case for anything
that is not exact; those `around tastes` lie as learnt factors do. All engines read the same files and take turns. Peers run in processes of
their own, this file with `--peer`. usearch's graphs are built once, which takes minutes each, and kept.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy

from engines import close, start
from report import Report

SEED, GOAL, RECALL = 7, 1.0, 0.95
TASTES = 2_000
# What each engine is told to look further, up to where it finds enough.
SHARES = [round(0.004 * 1.2**n, 4) for n in range(31)]
EXPANSIONS = [round(100 * 1.2**n) for n in range(26)]


def made(folder, kind, rows, width, queries):
    """Files of vectors and queries, once."""
    name = {"unordered": "", "around tastes": "-tastes"}[kind]
    files = folder / f"vectors{name}-{rows}x{width}.f32", folder / f"queries{name}-{queries}x{width}.f32"
    if not all(file.exists() for file in files):
        draw = numpy.random.default_rng(SEED)
        normal = lambda count: draw.standard_normal((count, width), dtype=numpy.float32)
        if kind == "unordered":
            vectors, asked = normal(rows), normal(queries)
        else:
            # Directions count less and less, some tastes have many items, and a user has two of them.
            directions = (1.0 / numpy.sqrt(1 + numpy.arange(width))).astype(numpy.float32)
            tastes = normal(TASTES) * directions
            vectors = tastes[draw.zipf(1.3, rows) % TASTES] + 0.5 * normal(rows) * directions
            of_user = tastes[draw.integers(0, TASTES, (queries, 2))].sum(axis=1)
            asked = of_user + 0.3 * normal(queries) * directions
        vectors *= draw.lognormal(0.0, 0.3, (rows, 1)).astype(numpy.float32)
        vectors.tofile(files[0])
        asked.tofile(files[1])
    return files


def read(file, width):
    return numpy.fromfile(file, numpy.float32).reshape(-1, width)


def answer(ready, begun, queries, search):
    """Answers as the worker of Refract does; `search` gives the places of one query's best."""
    print(json.dumps({"ready": ready, "load_s": time.perf_counter() - begun}), flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        seconds, ids = [], []
        for query in queries:
            begun = time.perf_counter()
            found = search(query, job)
            seconds.append(time.perf_counter() - begun)
            ids.append(found.tolist())
        print(json.dumps({"seconds": seconds, "ids": ids}), flush=True)


def faiss_peer(vectors, queries, width):
    import faiss

    faiss.omp_set_num_threads(1)
    begun = time.perf_counter()
    index = faiss.IndexFlatIP(width)
    index.add(read(vectors, width))
    answer(f"faiss {faiss.__version__}", begun, read(queries, width), lambda query, job: index.search(query[None], job["k"])[1][0])


def is_evened(vectors):
    """Which of two ways usearch is told, the better one for each kind at 100,000 vectors: by inner products, with which it finds 0.87
    of the best around tastes at most and 0.95 of unordered ones soon; or by distances, each vector made as long as the longest by a number
    more, with which it finds 0.95 around tastes and hardly any of unordered ones."""
    return "-tastes" in Path(vectors).name


def graph(width, evened):
    from usearch.index import Index

    return Index(ndim=width + evened, metric="l2sq" if evened else "ip", dtype="f32")


def build(vectors, width):
    rows, evened = read(vectors, width), is_evened(vectors)
    if evened:
        lengths = (rows * rows).sum(axis=1)
        rows = numpy.hstack([rows, numpy.sqrt(numpy.maximum(lengths.max() - lengths, 0))[:, None]])
    index = graph(width, evened)
    index.add(numpy.arange(len(rows)), rows)
    index.save(vectors + ".usearch")


def usearch_peer(vectors, queries, width):
    import usearch

    begun = time.perf_counter()
    evened = is_evened(vectors)
    index = graph(width, evened)
    index.load(vectors + ".usearch")
    asked = numpy.pad(read(queries, width), ((0, 0), (0, int(evened))))

    def search(query, job):
        index.expansion_search = job["expansion"]
        return index.search(query, job["k"], threads=1).keys

    answer(f"usearch {usearch.__version__}", begun, asked, search)


PEERS = {"faiss": faiss_peer, "usearch": usearch_peer}


def milliseconds(answers):
    return [1e3 * statistics.median(answer["seconds"]) for answer in answers]


def in_turns(report, what, jobs, rounds):
    """Says what each of `jobs` (worker, job; by name) takes, and what the first is to the second."""
    found = {name: [] for name in jobs}
    for number in range(rounds + 1):
        for name, (worker, job) in jobs.items():
            said = worker.ask(job)
            if number:
                found[name].append(said)
    for name, answers in found.items():
        each = milliseconds(answers)
        report.say(f"{what}/{name}", statistics.median(each), "ms", rounds, spread=(min(each), max(each)))
    ours, theirs = (milliseconds(answers) for answers in found.values())
    each = sorted(their / our for our, their in zip(ours, theirs))
    names = " : ".join(found)
    report.say(f"{what}/speed, {names}", statistics.median(each), "times", rounds, GOAL, spread=(each[0], each[-1]))
    return [answers[0]["ids"] for answers in found.values()]


def same(found, best, k):
    return statistics.mean(len(set(a) & set(b)) / k for a, b in zip(found, best))


def enough(worker, name, settings, k, best):
    """The first setting with which a worker finds enough of the best, as a job; `None` if none does."""
    for setting in settings:
        job = {"k": k, name: setting}
        if same(worker.ask(job)["ids"], best, k) >= RECALL:
            return job
    return None


def main():
    parser = argparse.ArgumentParser(prog="tests/bench/run ranker")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each")
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--k", type=int, default=100)
    args = parser.parse_args()
    report = Report(args.json)
    for kind in ("unordered", "around tastes"):
        measure(args, report, kind)


def measure(args, report, kind):
    vectors, queries = made(Path(os.environ["REFRACT_BENCH_FILES"]), kind, args.items, args.width, 50)
    if not Path(f"{vectors}.usearch").exists():
        print(f"    building usearch's graph of {args.items} vectors, {kind} (minutes, once)", file=sys.stderr)
        subprocess.run([sys.executable, __file__, "--build", vectors, str(args.width)], check=False)
    alone = {"RAYON_NUM_THREADS": "1"}
    peer = lambda name: [sys.executable, __file__, "--peer", name, vectors, queries, args.width]
    ours = start("Refract", [os.environ["REFRACT_BENCH_RETRIEVAL"], vectors, queries, args.width], alone)
    faiss = start("faiss IndexFlatIP", peer("faiss"), alone)
    usearch = start("usearch", peer("usearch"), alone)
    what = f"ranker/best {args.k} of {args.items} x {args.width}, {kind}"
    if ours and faiss:
        jobs = {"Refract": (ours, {"k": args.k}), "faiss IndexFlatIP": (faiss, {"k": args.k})}
        exact, theirs = in_turns(report, f"{what}/exact", jobs, args.rounds)
        report.say(f"{what}/exact/the same items", same(exact, theirs, args.k), "share", len(exact))
    if ours and usearch:
        best = ours.ask({"k": args.k})["ids"]
        looked = enough(ours, "share", SHARES, args.k, best), enough(usearch, "expansion", EXPANSIONS, args.k, best)
        if all(looked):
            jobs = {"Refract": (ours, looked[0]), "usearch": (usearch, looked[1])}
            found = in_turns(report, f"{what}/approximate", jobs, args.rounds)
            for name, ids in zip(jobs, found):
                report.say(f"{what}/approximate/{name}/recall", same(ids, best, args.k), "share", len(ids), RECALL, note=f"   {jobs[name][1]}")
        else:
            print(f"    SKIPPED, LOUDLY: {kind}: nobody found {RECALL} of the best: {looked}", file=sys.stderr)
    close([worker for worker in (ours, faiss, usearch) if worker])


if sys.argv[1:2] == ["--peer"]:
    PEERS[sys.argv[2]](sys.argv[3], sys.argv[4], int(sys.argv[5]))
elif sys.argv[1:2] == ["--build"]:
    build(sys.argv[2], int(sys.argv[3]))
else:
    main()
