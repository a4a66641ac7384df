"""What can be known about the scenarios without a server: `loadtest/run ghz check`."""

import argparse
import json
import re
import tempfile
from pathlib import Path

import data
import run

ROOT = Path(__file__).parents[2]
# Of ghz's configuration: those that are used here. A misspelt one would be ignored by ghz without a word.
KEYS = {
    "name", "proto", "import-paths", "call", "insecure", "timeout", "disable-template-functions", "disable-template-data", "total", "concurrency",
    "connections", "async", "rps", "duration", "duration-stop", "load-schedule", "load-start", "load-step", "load-end",
    "load-step-duration", "load-max-duration", "lb-strategy", "data-file",
}  # fmt: skip
GOALS = re.compile(r"(p50_ms|p95_ms|p99_ms|refused_p99_ms|failed_share|p99_drift)_max|sent_share_min|about|allowed|prepare")


def complaints() -> list[str]:
    return _scenarios() + _data() + _verdicts() + _secured()


def _scenarios() -> list[str]:
    wrong = []
    proto = (ROOT / "proto/refract/recommend/v1/recommend_service.proto").read_text()
    files = {path.stem for path in run.HERE.glob("*.json")}
    if files != set(run.SCENARIOS):
        wrong.append(f"goals.toml and the configurations disagree: {sorted(files ^ set(run.SCENARIOS))}")
    for name in sorted(files & set(run.SCENARIOS)):
        config = json.loads((run.HERE / f"{name}.json").read_text())
        wrong += [f"{name}.json: ghz knows no {key}, or nobody here does" for key in sorted(config.keys() - KEYS)]
        wrong += [f"goals.toml: {name}.{key} is no goal" for key in run.GOALS[name] if not GOALS.fullmatch(key)]
        method = config["call"].rpartition("/")[2]
        if not config["call"].startswith("refract.recommend.v1.RecommendService/") or f"rpc {method}(" not in proto:
            wrong.append(f"{name}.json calls {config['call']}, which the proto has not")
        if not (ROOT / config["proto"]).is_file() or not all((ROOT / path).is_dir() for path in config["import-paths"]):
            wrong.append(f"{name}.json names protos that are not there")
        if Path(config["data-file"]).stem not in data.KINDS:
            wrong.append(f"{name}.json wants data that nobody makes: {config['data-file']}")
        if not run.intended(config):
            wrong.append(f"{name}.json has no schedule")
        if name != "smoke" and not config.get("async"):
            wrong.append(f"{name}.json is not async: a slow server would slow its caller down and look better than it is")
    return wrong


def _secured() -> list[str]:
    """Certificates and credentials reach ghz, and never without TLS."""
    wrong = []
    base = dict(ca=None, server_name=None, cert=None, key=None, token_file=None)
    with tempfile.NamedTemporaryFile("w") as token:
        token.write("abc\n")
        token.flush()
        told = run.secured(argparse.Namespace(**base | {"ca": Path("ca.crt"), "server_name": "ranker", "token_file": Path(token.name)}))
        if told != {"cacert": "ca.crt", "cname": "ranker", "metadata": {"authorization": "Bearer abc"}}:
            wrong.append(f"over TLS ghz is told {told}")
        for given in ({"token_file": Path(token.name)}, {"ca": Path("ca.crt"), "cert": Path("c")}):
            try:
                wrong.append(f"{given} is not refused: {run.secured(argparse.Namespace(**base | given))}")
            except ValueError:
                pass
    return wrong


def _data() -> list[str]:
    wrong = []
    for kind in data.KINDS:
        first, again, other = (json.dumps(data.calls(kind, seed=seed)) for seed in (1, 1, 2))
        if first != again:
            wrong.append(f"data: {kind} is not the same twice")
        if first == other:
            wrong.append(f"data: {kind} does not depend on the seed")
    known = set(data.users(data.DEMO))
    zipf = [call["rank"]["subject"]["user_id"] for call in data.calls("zipf")]
    often = max(zipf.count(user) for user in set(zipf)) / len(zipf)
    if not (0.05 < often < 0.35 and set(zipf) <= known and len(set(zipf)) > 300):
        wrong.append(f"data: zipf has {len(set(zipf))} users, the most frequent with a share of {often:.2f}")
    histories = [json.dumps(call) for call in data.calls("cold")]
    if len(set(histories)) != len(histories):
        wrong.append("data: cold repeats itself")
    if len(data.calls("warm")) != 16:
        wrong.append("data: warm is not sixteen users")
    return wrong


def _report(*calls: tuple[str, float]) -> dict:
    """A report as ghz writes it: status and milliseconds, ten calls a second."""
    details = [
        {"timestamp": f"2026-01-01T00:{n // 600:02}:{n // 10 % 60:02}.{n % 10}00000123Z", "latency": int(ms * 1e6), "error": "", "status": status}
        for n, (status, ms) in enumerate(calls)
    ]
    counts: dict[str, int] = {}
    for status, _ in calls:
        counts[status] = counts.get(status, 0) + 1
    return {"count": len(calls), "total": int(len(calls) / 10 * 1e9), "statusCodeDistribution": counts, "details": details}


def _verdicts() -> list[str]:
    """Reports whose verdict is known."""
    config = {"rps": 10, "duration": "10s"}
    goals = {"failed_share_max": 0.01, "sent_share_min": 0.9, "p99_ms_max": 100}
    overload = goals | {"allowed": ["ResourceExhausted"], "refused_p99_ms_max": 5}
    cases = [
        ("all well", config, goals, [("OK", 50)] * 100, set()),
        ("one in a hundred is slow", config, goals, [("OK", 50)] * 99 + [("OK", 500)], set()),
        ("two in a hundred are slow", config, goals, [("OK", 50)] * 98 + [("OK", 500)] * 2, {"p99_ms"}),
        ("failures", config, goals, [("OK", 50)] * 98 + [("Internal", 1)] * 2, {"failed_share"}),
        ("a deadline is a failure", config, goals, [("OK", 50)] * 90 + [("DeadlineExceeded", 20000)] * 10, {"failed_share"}),
        ("too few were sent", config, goals, [("OK", 50)] * 80, {"sent_share"}),
        ("nothing at all", config, goals, [], {"failed_share", "sent_share", "p99_ms"}),
        ("refusals are allowed", config, overload, [("OK", 50)] * 20 + [("ResourceExhausted", 2)] * 80, set()),
        ("slow refusals are not", config, overload, [("OK", 50)] * 20 + [("ResourceExhausted", 20)] * 80, {"refused_p99_ms"}),
        ("all refused shows nothing", config, overload, [("ResourceExhausted", 2)] * 100, {"p99_ms"}),
        ("it grows", config, {"p99_drift_max": 1.5}, [("OK", 10 + n) for n in range(200)], {"p99_drift"}),
        ("it does not grow", config, {"p99_drift_max": 1.5}, [("OK", 10)] * 200, set()),
    ]
    wrong = []
    for name, settings, wanted, calls, broken in cases:
        rows = run.measure("case", settings, _report(*calls), wanted)
        got = {row.name.removeprefix("case.").rpartition(".")[2] for row in rows if row.holds is False}
        if got != broken:
            wrong.append(f"verdict on {name!r}: broken are {sorted(got)}, not {sorted(broken)}")
    ramp = {"load-schedule": "step", "load-start": 5, "load-step": 5, "load-end": 10, "load-step-duration": "10s", "duration": "30s"}
    if run.intended(ramp) != 50 + 100 + 100:
        wrong.append(f"a ramp of 5, 10, 10 a second for 30 s is {run.intended(ramp)} calls")
    at = {row.name: row.value for row in run.measure("case", ramp, _report(*[("OK", 1)] * 100, *[("OK", 9)] * 100), {})}
    if (at.get("ghz.case.p99_ms@5/s"), at.get("ghz.case.p99_ms@10/s")) != (1.0, 9.0):
        wrong.append(f"the steps of a ramp are told apart wrongly: {at}")
    return wrong
