"""The run that the dashboards' pictures show: a quiet time, then one trouble after another, each named on the pictures."""

import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
sys.path[:0] = [str(HERE.parent), str(ROOT / "loadtest/ghz")]

import data  # noqa: E402
import draw  # noqa: E402

SCRAPE_SECONDS = 2
# Ports of this run: not those of a cluster that may be running here.
DATA = {"ranker": 7201, "oracle": 7202, "prism": 7203}
ADMIN = {"ranker": 7301, "oracle": 7302, "prism": 7303}
REDIS, PROMETHEUS = 7279, 7290
# Items in each request.
LIMIT = 3


@dataclass
class Act:
    """One part of the story: its name on the pictures, its load, and what happens to a station as it begins."""

    name: str
    seconds: int
    rps: int
    kind: str = "zipf"
    stop: str = ""
    start: str = ""


STORY = [
    Act("cold", 25, 8, kind="cold"),
    Act("remembered", 25, 8, kind="warm"),
    Act("usual", 30, 8),
    Act("more callers", 30, 30),
    Act("usual", 20, 8),
    Act("no store", 30, 8, kind="cold", stop="redis"),
    Act("usual", 25, 8, start="redis"),
    Act("no Oracle", 30, 8, kind="cold", stop="oracle"),
    Act("usual", 25, 8, start="oracle"),
    Act("no Prism", 25, 8, stop="prism"),
    Act("usual", 25, 8, start="prism"),
]


class Cluster:
    """Three processes, a Redis and a Prometheus on loopback."""

    def __init__(self, program: str, scratch: Path):
        self.program, self.scratch = program, scratch
        self.running: dict[str, subprocess.Popen] = {}
        (scratch / "secret").write_text("a secret for one run only")
        jobs = [
            {
                "job_name": role,
                "static_configs": [{"targets": [f"127.0.0.1:{port}"], "labels": {"namespace": "refract", "release": "refract", "component": role, "pod": f"refract-{role}-0"}}],
            }
            for role, port in ADMIN.items()
        ]
        (scratch / "prometheus.yml").write_text(json.dumps({"global": {"scrape_interval": f"{SCRAPE_SECONDS}s", "scrape_timeout": f"{SCRAPE_SECONDS}s"}, "scrape_configs": jobs}))

    def command(self, name: str) -> list[str]:
        if name == "redis":
            return ["redis-server", "--port", str(REDIS), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(self.scratch)]
        if name == "prometheus":
            return [
                "prometheus", f"--config.file={self.scratch}/prometheus.yml", f"--storage.tsdb.path={self.scratch}/tsdb",
                f"--web.listen-address=127.0.0.1:{PROMETHEUS}", "--log.level=error",
            ]  # fmt: skip
        settings = [f"{name}.listen.address=127.0.0.1:{DATA[name]}", f"{name}.process.admin.address=127.0.0.1:{ADMIN[name]}"]
        if name == "ranker":
            settings += [f"ranker.{other}.target=dns:localhost:{DATA[other]}" for other in ("oracle", "prism")]
            settings += ["ranker.knowledge.store=redis", f"ranker.knowledge.redis.url=redis://127.0.0.1:{REDIS}", f"ranker.knowledge.secret_file={self.scratch}/secret"]
        return [self.program, "serve", name, *(word for setting in settings for word in ("--set", setting))]

    def start(self, name: str) -> None:
        with (self.scratch / f"{name}.log").open("a") as log:
            self.running[name] = subprocess.Popen(self.command(name), stdout=log, stderr=log)
        if name in ADMIN:
            self.await_ready(name)

    def await_ready(self, name: str) -> None:
        for _ in range(200):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{ADMIN[name]}/metrics", timeout=1).close()
                return
            except OSError:
                time.sleep(0.1)
        raise SystemExit(f"{name} does not come up:\n{(self.scratch / f'{name}.log').read_text()[-2000:]}")

    def stop(self, name: str) -> None:
        process = self.running.pop(name)
        process.kill() if name == "redis" else process.terminate()
        process.wait()

    def stop_all(self) -> None:
        for name in list(self.running):
            self.stop(name)


def load(act: Act, number: int, scratch: Path) -> None:
    """Calls at a constant rate, whatever becomes of them."""
    calls = scratch / "calls.json"
    data.write(act.kind, calls, data=data.DEMO, seed=42 + (number if act.kind == "cold" else 0), limit=LIMIT)
    subprocess.run(
        [
            "ghz", "--insecure", "--async", "--rps", str(act.rps), "--duration", f"{act.seconds}s", "--duration-stop", "close", "--connections", "4",
            "--proto", "refract/recommend/v1/recommend_service.proto", "--import-paths", str(ROOT / "proto"),
            "--call", "refract.recommend.v1.RecommendService/Recommend", "--data-file", str(calls), "--timeout", "10s", f"127.0.0.1:{DATA['ranker']}",
        ],
        stdout=subprocess.DEVNULL, check=False,
    )  # fmt: skip


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        cluster = Cluster(sys.argv[1], Path(folder))
        acts = []
        try:
            for name in ("redis", "oracle", "prism", "ranker", "prometheus"):
                cluster.start(name)
            time.sleep(3 * SCRAPE_SECONDS)
            for number, act in enumerate(STORY):
                begin = time.time()
                if act.stop:
                    cluster.stop(act.stop)
                if act.start:
                    cluster.start(act.start)
                print(f"  {act.name} ({act.seconds} s, {act.rps} calls/s)", flush=True)
                load(act, number, Path(folder))
                acts.append((act.name, begin, time.time()))
            time.sleep(2 * SCRAPE_SECONDS)
            draw.dashboards(f"http://127.0.0.1:{PROMETHEUS}", acts, SCRAPE_SECONDS)
        finally:
            cluster.stop_all()


if __name__ == "__main__":
    main()
