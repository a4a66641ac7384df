"""What a cluster takes beside its models: three services and a Redis as processes on loopback, warm, with the shipped models. Started by
tests/bench/run.

`overhead` is a streamed answer's time, from when the request was sent to its summary, less the Prism's work on it: the network, the
protocol, the ranker, the memory, and the generator's own end of it. First the rate that is too much is looked for; the goals are
held against 60 % of it, with services, Redis and generator on the same processors.
"""

import argparse
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from report import Report, chart

FILES = Path(os.environ["REFRACT_BENCH_FILES"])
REFRACT, LOAD = os.environ["REFRACT_BIN"], os.environ["REFRACT_LOAD_BIN"]
SHARE = 0.6
OVERHEAD_P50, OVERHEAD_P99, FOUND_P50 = 1.0, 3.0, 0.5
# Requests a second that are tried, each a quarter more than the last.
RATES = [round(100 * 1.25**n) for n in range(20)]
# Too much: more than one request in a hundred takes this long or is refused. Idle, it is some 5 ms.
COMPLETE = "100ms"
TICKS = os.sysconf("SC_CLK_TCK")
PATIENCE_S = 60


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Cluster:
    """A Redis, an Oracle, a Prism, and rankers by name with what each is told."""

    def __init__(self, rankers):
        self.folder = tempfile.TemporaryDirectory()
        self.log = open(FILES / "cluster.log", "w")
        self.processes, self.addresses = {}, {}
        port = free_port()
        self._begin("redis", ["redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
        for role in ("oracle", "prism"):
            self._serve(role, role, [])
        shared = {
            "oracle.target": self.addresses["oracle"], "prism.target": self.addresses["prism"], "knowledge.store": "redis",
            "knowledge.secret": "only-of-this-measurement", "knowledge.redis.url": f"redis://127.0.0.1:{port}",
        }
        for name, told in rankers.items():
            self._serve(name, "ranker", [x for key, value in (shared | told).items() for x in ("--set", f"ranker.{key}={value}")])

    def _begin(self, name, command):
        self.processes[name] = subprocess.Popen(list(map(str, command)), stdout=self.log, stderr=self.log)

    def _serve(self, name, role, told):
        ready = Path(self.folder.name) / name
        self._begin(name, [REFRACT, "serve", role, "--any-port", "--ready-file", ready, *told])
        begun = time.monotonic()
        while not (ready.exists() and ready.stat().st_size):
            if self.processes[name].poll() is not None or time.monotonic() - begun > PATIENCE_S:
                sys.exit(f"tests/bench/run: {name} does not start; {self.log.name} says why")
            time.sleep(0.05)
        self.addresses[name] = json.loads(ready.read_text())[role]["address"]

    def processor_s(self, name):
        """Seconds of processor that a process has taken."""
        fields = Path(f"/proc/{self.processes[name].pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def close(self):
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()
        self.folder.cleanup()


def asked(address, rate, seconds, items):
    """Figures of one load by name, without its rate; `good` says whether it was not too much."""
    found = subprocess.run(
        [LOAD, "run", "--target", address, "--rate", str(rate), "--limit", str(items), "--asking", "warm", "--duration",
         f"{seconds}s", "--warm-up", "2s", "--objective", f"complete={COMPLETE}", "--good-share", "0.99", "--json"],
        capture_output=True, text=True,
    )
    rows = [json.loads(line) for line in found.stdout.splitlines()]
    if not rows:
        sys.exit(f"tests/bench/run: no load: {found.stderr.strip()}")
    figures = {row["name"].split("@")[0].removeprefix("load."): row["value"] for row in rows}
    return figures | {"good": found.returncode == 0}


def capacity(address, items, report):
    """The last rate before the first that is too much."""
    held = None
    for rate in RATES:
        if not asked(address, rate, 4, items)["good"]:
            break
        held = rate
        print(f"    {rate} requests/s held", file=sys.stderr)
    if held is None:
        sys.exit(f"tests/bench/run: even {RATES[0]} requests/s are too many here")
    report.say("cluster/capacity", held, "requests/s", 1)
    return held


def main():
    parser = argparse.ArgumentParser(prog="tests/bench/run cluster")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each")
    parser.add_argument("--seconds", type=int, default=10, help="length of each")
    parser.add_argument("--items", type=int, default=1, help="explained in each answer")
    parser.add_argument("--rate", type=float, help="requests a second, instead of 60 %% of what is found to be possible")
    parser.add_argument("--chart", metavar="FILE.svg")
    args = parser.parse_args()
    report = Report(args.json)
    # As shipped, a ranker keeps what it has read for 10 s; the other one asks Redis each time.
    cluster = Cluster({"ranker": {}, "ranker, always Redis": {"knowledge.l1_ttl": "0s"}})
    try:
        measure(args, report, cluster)
    finally:
        cluster.close()


def measure(args, report, cluster):
    names = ["ranker", "ranker, always Redis"]
    rate = args.rate or SHARE * capacity(cluster.addresses["ranker"], args.items, report)
    loads, spent = {name: [] for name in names}, {}
    for number in range(args.rounds + 1):
        for name in names:
            before = {process: cluster.processor_s(process) for process in (name, "prism", "redis")}
            load = asked(cluster.addresses[name], rate, args.seconds, args.items)
            if not number:
                continue
            loads[name].append(load)
            # The load's own two seconds of warming up are at the same rate.
            requests = load["ok_per_second"] * (args.seconds + 2)
            for process, begun in before.items():
                spent.setdefault((name, process), []).append(1e3 * (cluster.processor_s(process) - begun) / requests)
    values = {}
    for name in names:
        for figure, goal in (("overhead_p50", OVERHEAD_P50), ("overhead_p99", OVERHEAD_P99), ("complete_p50", None), ("complete_p99", None)):
            each = [load[figure] for load in loads[name]]
            values[name, figure.replace("_", " ")] = statistics.median(each)
            held = goal if name == "ranker" else None
            report.say(f"cluster/{name}/{figure}", statistics.median(each), "ms", args.rounds, held, at_most=True, spread=(min(each), max(each)))
    found = [load["found_p50"] for load in loads[names[1]]]
    report.say("cluster/Redis hit/p50", statistics.median(found), "ms", args.rounds, FOUND_P50, at_most=True, spread=(min(found), max(found)))
    for process in ("ranker", "prism", "redis"):
        each = spent["ranker", process]
        report.say(f"cluster/processor a request/{process}", statistics.median(each), "ms", args.rounds, spread=(min(each), max(each)))
    rate_seen = statistics.median(load["ok_per_second"] for load in loads["ranker"])
    report.say("cluster/rate", rate_seen, "requests/s", args.rounds)
    if args.chart:
        groups = [group for _, group in values][: len(values) // 2]
        chart(args.chart, "Milliseconds of a streamed answer", f"{rate_seen:.0f} requests/s on {os.cpu_count()} processors, generator and Redis included",
              names, groups, values, "{:.2f}")


main()
