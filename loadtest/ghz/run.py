"""Runs a scenario with ghz and holds its report against the scenario's goals.

Exit codes: 0 all goals hold, 1 one does not, 64 used wrongly, 69 ghz could not run or nobody answers.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import data

HERE = Path(__file__).parent
GOALS = tomllib.loads((HERE / "goals.toml").read_text())
SCENARIOS = list(GOALS)
HOLDS, BROKEN, USAGE, UNAVAILABLE = 0, 1, 64, 69
UNITS = {"p50_ms": "ms", "p99_ms": "ms", "refused_p99_ms": "ms", "failed_share": "share", "sent_share": "share", "p99_drift": "ratio"}


@dataclass
class Row:
    """One line of the result, for people and for programs."""

    name: str
    value: float | None
    unit: str
    goal: str | None
    holds: bool | None
    n: int

    def json(self) -> str:
        return json.dumps(self.__dict__)

    def text(self) -> str:
        form = {"share": ",.4g", "ratio": ",.4g", "calls": ",d"}.get(self.unit, ",.1f")
        value = "-" if self.value is None else format(self.value, form)
        verdict = {True: "ok", False: "BROKEN", None: ""}[self.holds]
        return f"{self.name:32} {value:>12} {self.unit:9} {self.goal or '':14} {verdict}"


def percentile(sorted_values: list[float], share: float) -> float | None:
    """Nearest rank: a value that was seen."""
    return sorted_values[max(0, -(-len(sorted_values) * share // 1).__int__() - 1)] if sorted_values else None


def seconds(text: str) -> float:
    unit = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}
    return sum(float(n) * unit[u] for n, u in re.findall(r"([\d.]+)(ms|s|m|h)", text))


def intended(config: dict) -> int | None:
    """Calls that the schedule asks for."""
    if config.get("load-schedule") == "step":
        rate, step, total, left = config["load-start"], config["load-step"], 0.0, seconds(config["duration"])
        while left > 0:
            slice_ = min(left, seconds(config["load-step-duration"]))
            total += rate * slice_
            rate, left = min(rate + step, config["load-end"]), left - slice_
        return round(total)
    return round(config["rps"] * seconds(config["duration"])) if config.get("rps") else config.get("total")


def measure(scenario: str, config: dict, report: dict, goals: dict) -> list[Row]:
    """From ghz's report to rows. Latencies are taken from the single calls: ghz's own leave out what failed."""
    details = report.get("details") or []
    allowed = set(goals.get("allowed", []))
    answered = sorted(d["latency"] / 1e6 for d in details if d["status"] == "OK")
    refused = sorted(d["latency"] / 1e6 for d in details if d["status"] in allowed)
    failed = len(details) - len(answered) - len(refused)
    asked = intended(config)
    measured = {
        "failed_share": (failed / len(details) if details else 1.0, len(details)),
        "sent_share": (len(details) / asked if asked else None, asked or 0),
        "p50_ms": (percentile(answered, 0.50), len(answered)),
        "p95_ms": (percentile(answered, 0.95), len(answered)),
        "p99_ms": (percentile(answered, 0.99), len(answered)),
        "refused_p99_ms": (percentile(refused, 0.99), len(refused)),
        "p99_drift": (drift(details), len(answered)),
    }
    rows = [
        Row(f"ghz.{scenario}.calls", len(details), "calls", None, None, len(details)),
        Row(f"ghz.{scenario}.answered_per_second", len(answered) / (report["total"] / 1e9) if report.get("total") else None, "1/s", None, None, len(answered)),
    ]
    for name, (value, n) in measured.items():
        highest, lowest = goals.get(f"{name}_max"), goals.get(f"{name}_min")
        goal = f"<= {highest:g}" if highest is not None else f">= {lowest:g}" if lowest is not None else None
        holds = None
        if goal and value is not None:
            holds = value <= highest if highest is not None else value >= lowest
        elif goal and name != "refused_p99_ms":
            holds = False  # nothing was answered, so nothing was shown
        if goal or name in ("p50_ms", "p95_ms", "p99_ms"):
            rows.append(Row(f"ghz.{scenario}.{name}", value, UNITS.get(name, "ms"), goal, holds, n))
    for status, count in sorted((report.get("statusCodeDistribution") or {}).items()):
        rows.append(Row(f"ghz.{scenario}.status.{status}", count, "calls", None, None, len(details)))
    if config.get("load-schedule") == "step":
        rows += steps(scenario, config, details)
    return rows


def started(call: dict) -> float:
    """Nanoseconds are more than Python's dates hold."""
    return datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", call["timestamp"]).replace("Z", "+00:00")).timestamp()


def drift(details: list[dict]) -> float | None:
    """p99 of the last tenth over p99 of the first tenth."""
    answered = sorted((started(d), d["latency"]) for d in details if d["status"] == "OK")
    tenth = len(answered) // 10
    if tenth < 10:
        return None
    first, last = (sorted(latency for _, latency in part) for part in (answered[:tenth], answered[-tenth:]))
    return percentile(last, 0.99) / percentile(first, 0.99)


def steps(scenario: str, config: dict, details: list[dict]) -> list[Row]:
    """p99 of each step of a ramp."""
    if not details:
        return []
    width = seconds(config["load-step-duration"])
    begin = min(started(d) for d in details)
    by_step: dict[int, list[float]] = {}
    for call in details:
        found = by_step.setdefault(int((started(call) - begin) // width), [])
        if call["status"] == "OK":
            found.append(call["latency"] / 1e6)
    return [
        Row(f"ghz.{scenario}.p99_ms@{min(config['load-start'] + n * config['load-step'], config['load-end'])}/s", percentile(sorted(found), 0.99), "ms", None, None, len(found))
        for n, found in sorted(by_step.items())
    ]


def scaled(config: dict, scale: float, duration: str | None) -> dict:
    config = dict(config)
    for name in ("rps", "load-start", "load-step", "load-end", "total"):
        if name in config:
            config[name] = max(1, round(config[name] * scale))
    if duration and "duration" in config:
        config["duration"] = duration
        if "load-max-duration" in config:
            config["load-max-duration"] = duration
    return config


def secured(args: argparse.Namespace) -> dict:
    """What ghz is told of certificates and credentials. They are in a file of ours for the length of the run, never in `ps`."""
    if (args.server_name or args.cert or args.key or args.token_file) and not args.ca:
        raise ValueError("--server-name, --cert, --key and --token-file are for TLS: name --ca, too")
    if bool(args.cert) != bool(args.key):
        raise ValueError("--cert and --key belong together")
    dial: dict = {}
    for name, value in (("cacert", args.ca), ("cname", args.server_name), ("cert", args.cert), ("key", args.key)):
        if value:
            dial[name] = str(value)
    if args.token_file:
        dial["metadata"] = {"authorization": f"Bearer {args.token_file.read_text().strip()}"}
    return dial


def ghz(config: dict, target: str, scratch: Path, name: str) -> dict:
    path = scratch / f"{name}.json"
    path.write_text(json.dumps(config))
    done = subprocess.run(["ghz", "--config", str(path), "--format", "json", target], capture_output=True, text=True, check=False)
    try:
        return json.loads(done.stdout)
    except json.JSONDecodeError:
        print(f"ghz did not report: {(done.stderr or done.stdout).strip()[:500]}", file=sys.stderr)
        print(f"is a ranker at {target}? `refract serve all` starts one; --target names another", file=sys.stderr)
        sys.exit(UNAVAILABLE)


def check() -> int:
    """The scenarios agree with themselves; needs no server."""
    import check as checks

    wrong = checks.complaints()
    for complaint in wrong:
        print(f"  {complaint}")
    print(f"  ghz: {len(SCENARIOS)} scenarios, {len(wrong)} complaints")
    return BROKEN if wrong else HOLDS


def main() -> int:
    parser = argparse.ArgumentParser(prog="loadtest/run ghz", description="Scenarios: " + "; ".join(f"{n}: {g['about']}" for n, g in GOALS.items()))
    parser.add_argument("scenario", choices=[*SCENARIOS, "check"])
    parser.add_argument("--target", default="127.0.0.1:7001", help="HOST:PORT of a ranker, or dns:///NAME:PORT for all behind a headless Service")
    parser.add_argument("--ca", type=Path, help="PEM of who signed the ranker's certificate: the call goes over TLS")
    parser.add_argument("--server-name", help="the name in the ranker's certificate, where it is not the target's host")
    parser.add_argument("--cert", type=Path, help="our certificate, where the ranker asks for one; with --key")
    parser.add_argument("--key", type=Path, help="its private key")
    parser.add_argument("--token-file", type=Path, help="file with the credential that callers of this cluster show")
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies every rate (or number of calls)")
    parser.add_argument("--duration", help="another duration, such as 10s")
    parser.add_argument("--data", type=Path, default=data.DEMO, help="data set that the server has (default: the demo's)")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--limit", type=int, default=3, help="items per request")
    parser.add_argument("--goal", action="append", default=[], metavar="NAME=VALUE", help="another goal, such as p99_ms=300 or failed_share=0")
    parser.add_argument("--keep", type=Path, help="file for ghz's own report")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    try:
        args = parser.parse_args()
    except SystemExit as stop:
        return USAGE if stop.code else HOLDS
    if args.scenario == "check":
        return check()

    goals = dict(GOALS[args.scenario])
    for text in args.goal:
        name, _, value = text.partition("=")
        known = [key for key in (f"{name}_max", f"{name}_min") if key in goals] or ([f"{name}_max"] if name in UNITS or name == "p95_ms" else [])
        try:
            goals[known[0]] = float(value)
        except (IndexError, ValueError):
            print(f"--goal {text}: write NAME=NUMBER with one of {', '.join([*UNITS, 'p95_ms'])}", file=sys.stderr)
            return USAGE
    try:
        dial = secured(args)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return USAGE
    # Paths in the files are from the top of the repository, so that `ghz --config` takes them as they are.
    config = scaled(json.loads((HERE / f"{args.scenario}.json").read_text()), args.scale, args.duration)
    kind = Path(config["data-file"]).stem
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        file = scratch / "calls.json"
        try:
            data.write(kind, file, data=args.data, seed=args.seed, limit=args.limit)
        except (OSError, KeyError) as error:
            print(f"--data {args.data}: cannot be read: {error}", file=sys.stderr)
            return USAGE
        config |= {"data-file": str(file), "proto": str(data.ROOT / config["proto"]), "import-paths": [str(data.ROOT / "proto")]}
        config = {k: v for k, v in config.items() if k != "insecure" or not args.ca} | dial
        if goals.get("prepare"):
            once = len(json.loads(file.read_text()))
            first = {k: v for k, v in config.items() if k not in ("async", "rps", "duration", "duration-stop")}
            ghz(first | {"total": once, "concurrency": 4}, args.target, scratch, "prepare")
        report = ghz(config, args.target, scratch, args.scenario)
    if args.keep:
        args.keep.write_text(json.dumps(report))
    rows = measure(args.scenario, config, report, goals)
    if not args.json:
        print(f"{args.scenario}: {goals['about']}\n")
    for row in rows:
        print(row.json() if args.json else row.text())
    if report.get("statusCodeDistribution", {}).keys() == {"Unavailable"} and "Unavailable" not in goals.get("allowed", []):
        print(f"\nnobody answers at {args.target}: `refract serve all` starts one; --target names another", file=sys.stderr)
        return UNAVAILABLE
    return BROKEN if any(row.holds is False for row in rows) else HOLDS


if __name__ == "__main__":
    sys.exit(main())
