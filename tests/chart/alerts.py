"""For each alert a symptom on which it fires, and the nearest thing to it on which it must not: promtool's unit tests."""

import json

NS = 'namespace="refract",release="refract"'
# A minute apart; enough for the longest window.
SLOPE = "x180"


def up(component: str, *pods: int) -> dict[str, str]:
    return {f'up{{component="{component}",{NS},pod="{n}"}}': f"{value}x180" for n, value in enumerate(pods)}


def neighbours(series: dict[str, str]) -> dict[str, str]:
    """The same of another release in the namespace."""
    return {name.replace('release="refract"', 'release="other"'): value for name, value in series.items()}


def counts(metric: str, **by: dict[str, int]) -> dict[str, str]:
    """A counter's growth a minute by the values of one label."""
    (label, growth), *_ = by.items()
    return {f'{metric}{{{NS},{label}="{value}"}}': f"0+{n}{SLOPE}" for value, n in growth.items()}


def buckets(metric: str, labels: str = "", **upto: int) -> dict[str, str]:
    """A histogram's growth a minute; `le_0_5=50` is the bucket up to 0.5."""
    found = {}
    for name, n in upto.items():
        le = name.removeprefix("le_").replace("_", ".").replace("inf", "+Inf")
        found[f'{metric}_bucket{{{NS},{labels}{"," if labels else ""}le="{le}"}}'] = f"0+{n}{SLOPE}"
    return found


def answered(**by: int) -> dict[str, str]:
    """The front door's calls a minute by status code."""
    of = f'{NS},service="refract.recommend.v1.RecommendService"'
    return {f'refract_wire_calls_total{{{of},code="{code}"}}': f"0+{n}{SLOPE}" for code, n in by.items()}


RUNGS = "refract_ranker_explanations_total"
CONSULT = "refract_knowledge_consult_seconds_count"
REFUSED = "refract_engine_refused_total"
FAULTS = "refract_engine_model_faults_total"
CORRUPT = "refract_knowledge_corrupt_total"
WRITES = "refract_knowledge_writes_total"
LOOKUPS = "refract_knowledge_lookups_total"
WITHHELD = "refract_prism_sentences_refused_total"
RANK, QUEUE, STORE = "refract_ranker_rank_seconds", "refract_engine_queue_seconds", "refract_knowledge_store_seconds"
BY_ENGINE = {"engine": "prism"}
GET = 'command="get"'

# Alert, labels of what fires, series on which it fires, series on which it does not.
CASES = [
    ("RefractRankerDown", {}, up("ranker", 0, 0), up("ranker", 0, 1)),
    ("RefractRankerDown", {}, up("prism", 1), up("ranker", 1)),
    ("RefractRankerDown", {}, up("ranker", 0) | neighbours(up("ranker", 1)), up("ranker", 1) | neighbours(up("ranker", 0))),
    ("RefractSlatesSlow", {}, buckets(RANK, le_0_5=98, le_1=100, le_inf=100), buckets(RANK, le_0_5=100, le_1=100, le_inf=100)),
    ("RefractRankerFailing", {}, answered(OK=98, UNAVAILABLE=2), answered(OK=50, INVALID_ARGUMENT=30, CANCELLED=20)),
    ("RefractExplanationsPoor", {}, counts(RUNGS, rung={"RUNG_CACHED": 80, "RUNG_TEMPLATE": 15, "RUNG_NONE": 5}),
     counts(RUNGS, rung={"RUNG_CACHED": 60, "RUNG_HISTORY_ONLY": 35, "RUNG_TEMPLATE": 5})),
    ("RefractOracleDown", {}, up("oracle", 0), up("oracle", 1)),
    ("RefractOracleShedding", {}, counts(REFUSED, engine={"oracle": 60}), counts(REFUSED, engine={"prism": 60, "oracle": 1})),
    ("RefractOracleFailing", {}, counts(CONSULT, outcome={"failed": 20, "ok": 80}), counts(CONSULT, outcome={"failed": 5, "ok": 95})),
    ("RefractPrismDown", {}, up("prism", 0, 0, 0), up("prism", 0, 0, 1)),
    ("RefractPrismShedding", {}, counts(REFUSED, engine={"prism": 60}), counts(REFUSED, engine={"oracle": 60})),
    ("RefractQueueSlow", BY_ENGINE, buckets(QUEUE, 'engine="prism"', le_1=90, le_5=100, le_inf=100),
     buckets(QUEUE, 'engine="prism"', le_1=99, le_5=100, le_inf=100)),
    ("RefractModelFaults", BY_ENGINE, counts(FAULTS, engine={"prism": 1}), {f'{FAULTS}{{{NS},engine="prism"}}': "5x180"}),
    ("RefractModelFaults", BY_ENGINE, counts(FAULTS, engine={"prism": 1}) | neighbours(counts(FAULTS, engine={"prism": 0})), neighbours(counts(FAULTS, engine={"prism": 1}))),
    ("RefractStoreDown", {}, {f'refract_knowledge_store_up{{{NS},pod="a"}}': "1x180", f'refract_knowledge_store_up{{{NS},pod="b"}}': "0x180"},
     {f'refract_knowledge_store_up{{{NS},pod="a"}}': "1x180"}),
    ("RefractStoreSlow", {}, buckets(STORE, GET, le_0_005=50, le_0_015=100, le_inf=100), buckets(STORE, GET, le_0_005=99, le_0_015=100, le_inf=100)),
    ("RefractKnowledgeCorrupt", {}, counts(CORRUPT, reason={"seal": 1}), counts(CORRUPT, reason={"seal": 0})),
    ("RefractKnowledgeNotWritten", {}, counts(WRITES, outcome={"ok": 80, "dropped": 20}), counts(WRITES, outcome={"ok": 95, "dropped": 5})),
    ("RefractKnowledgeRarelyRemembered", {}, counts(LOOKUPS, outcome={"miss": 80, "hit": 20}), counts(LOOKUPS, outcome={"miss": 50, "hit": 30, "l1": 20})),
    ("RefractCertificateEnds", {"pod": "a", "use": "server"}, {f'refract_net_certificate_expiry_seconds{{{NS},pod="a",use="server"}}': "600000x180"},
     {f'refract_net_certificate_expiry_seconds{{{NS},pod="a",use="server"}}': "2000000x180"}),
    ("RefractRequestsShed", {}, answered(OK=90, RESOURCE_EXHAUSTED=10) | {f"refract_ranker_requests_shed_total{{{NS}}}": "0+10x180"},
     answered(OK=99, RESOURCE_EXHAUSTED=1) | {f"refract_ranker_requests_shed_total{{{NS}}}": "0+1x180"}),
    ("RefractTruthRefusing", {}, counts(WITHHELD, reason={"unknown_title": 60}) | counts(RUNGS, rung={"RUNG_CACHED": 100}),
     counts(WITHHELD, reason={"unknown_title": 20}) | counts(RUNGS, rung={"RUNG_CACHED": 100})),
]  # fmt: skip


def tests(rules: list[dict]) -> tuple[str, list[str]]:
    """promtool's file for these rules, and the alerts that have no case."""
    by_name = {rule["alert"]: rule for rule in rules}
    healthy = {}
    groups = []
    for alert, labels, fires, silent in CASES:
        rule = by_name[alert]
        fired = {"exp_labels": rule["labels"] | labels, "exp_annotations": rule["annotations"]}
        for series, expected in [(fires, [fired]), (silent, [])]:
            groups.append(_group(series, [(alert, expected)]))
        # All that is well, together.
        healthy |= {name: value for name, value in silent.items() if name not in healthy and not name.startswith(("up", WITHHELD, RUNGS, REFUSED))}
    healthy |= up("ranker", 1, 1) | up("oracle", 1) | up("prism", 1, 1) | counts(RUNGS, rung={"RUNG_CACHED": 100, "RUNG_TEMPLATE": 2})
    groups.append(_group(healthy, [(alert, []) for alert in by_name]))
    return json.dumps({"rule_files": ["rules.yaml"], "tests": groups}, indent=1), sorted(by_name.keys() - {case[0] for case in CASES})


def _group(series: dict[str, str], expected: list[tuple[str, list]]) -> dict:
    return {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "alert_rule_test": [{"eval_time": "2h", "alertname": alert, "exp_alerts": alerts} for alert, alerts in expected],
    }
