"""Writes the dashboards. They answer, top to bottom, what somebody on call asks: do readers get what they should, and if
not, is it the callers, the memory, the Oracle or the Prisms?
"""

import json
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "helm/refract/dashboards"
# All releases of a namespace, or one; also those whose scraper does not tell them apart.
NS = 'namespace="$namespace",release=~"$release"'
SOURCE = {"type": "prometheus", "uid": "${source}"}


def quantiles(metric: str, by: str = "", where: str = "") -> list[tuple[str, str]]:
    """p50 and p99, split by a label where one is named."""
    sum_by = f"le, {by}" if by else "le"
    name = f"{{{{{by}}}}} " if by else ""
    return [
        (f"histogram_quantile(0.{q}, sum by ({sum_by}) (rate({metric}_bucket{{{NS}{where}}}[$__rate_interval])))", f"{name}p{q}")
        for q in (50, 99)
    ]


def rate(metric: str, by: str, where: str = "") -> list[tuple[str, str]]:
    return [(f"sum by ({by}) (rate({metric}{{{NS}{where}}}[$__rate_interval]))", f"{{{{{by}}}}}")]


def engine(name: str) -> list[tuple]:
    """What every engine tells about itself."""
    of = f',engine="{name}"'
    here = f"{{{NS}{of}}}"
    return [
        ("Sequences", "Running and waiting, summed over pods. Waiting for long means: too few pods.", "short",
         [(f"sum(refract_engine_sequences_running{here})", "running"), (f"sum(refract_engine_sequences_waiting{here})", "waiting")]),
        ("Guessed ahead", "Tokens guessed from the prompt, and those that were right: what speculation saves.", "short",
         [(f"sum(rate(refract_engine_drafted_tokens_total{here}[$__rate_interval]))", "guessed"),
          (f"sum(rate(refract_engine_drafted_tokens_right_total{here}[$__rate_interval]))", "right")]),
        ("Tokens that wait", "Decode memory that waiting sequences will need, by pod.", "short",
         [(f"refract_engine_tokens_waiting{here}", "{{pod}}")]),
        ("Wait before the engine begins", "Time in the queue.", "s", quantiles("refract_engine_queue_seconds", "", of)),
        ("Generations by outcome", "stop and length are good ends.", "ops", rate("refract_engine_generations_total", "outcome", of)),
        ("Refused and failed", "Refusals are load; model faults are a broken model or device.", "ops",
         rate("refract_engine_refused_total", "reason", of)
         + [(f"sum(rate(refract_engine_model_faults_total{here}[$__rate_interval]))", "model faults")]),
        ("Time for one", "Whole generations, decode steps, encoder batches.", "s",
         [(e, f"generation {n}") for e, n in quantiles("refract_engine_generation_seconds", "", of)]
         + [(e, f"step {n}") for e, n in quantiles("refract_engine_decode_step_seconds", "", of)]
         + [(e, f"encode {n}") for e, n in quantiles("refract_engine_encode_seconds", "", of)]),
        ("Decode memory in use", "Of the tokens there is room for, by pod. At 100 % sequences wait.", "percentunit",
         [(f"refract_engine_kv_tokens_used{here} / refract_engine_kv_tokens_total{here}", "{{pod}}")]),
        ("Bytes of decode memory", "Held now, and the most since the start, by pod. The peak stays flat.", "bytes",
         [(f"refract_engine_kv_bytes{here}", "now {{pod}}"), (f"refract_engine_kv_bytes_peak{here}", "peak {{pod}}")]),
        ("Tokens", "Read and written, per second.", "short",
         [(f"sum(rate(refract_engine_prompt_tokens_total{here}[$__rate_interval]))", "read"),
          (f"sum(rate(refract_engine_new_tokens_total{here}[$__rate_interval]))", "written")]),
        ("Rows and steps", "Rows decoded together, and steps per second: the batch that the load allows.", "short",
         [(f"avg(refract_engine_rows_running{here})", "rows"), (f"sum(rate(refract_engine_steps_total{here}[$__rate_interval]))", "steps/s")]),
    ]  # fmt: skip


ROWS = [
    ("What readers get", [
        ("Explanations by rung", "FRESH, CACHED and STALE rest on knowledge; HISTORY_ONLY does not; TEMPLATE and NONE are the ladder's end.", "ops",
         rate("refract_ranker_explanations_total", "rung")),
        ("Templates and missing", "Share of explanations below what a model would write. The alert RefractExplanationsPoor watches it.", "percentunit",
         [(f'sum(rate(refract_ranker_explanations_total{{{NS},rung=~"RUNG_TEMPLATE|RUNG_NONE"}}[$__rate_interval])) / sum(rate(refract_ranker_explanations_total{{{NS}}}[$__rate_interval]))', "share")]),
        ("Time to a whole explanation", "By rung, because a hit and a miss differ by orders of magnitude.", "s",
         quantiles("refract_ranker_explanation_seconds", "rung")),
        ("Processes up", "Pods that answer the scraper.", "short", [(f"sum by (component) (up{{{NS}}})", "{{component}}")]),
        ("Replicas left out", "By their callers, for failing or for being much slower than the others.", "ops", rate("refract_net_ejections_total", "reason")),
    ]),
    ("Is it the callers?", [
        ("Requests", "Answered per second. A step here explains a step everywhere below.", "reqps",
         [(f"sum(rate(refract_ranker_request_seconds_count{{{NS}}}[$__rate_interval]))", "requests"),
          (f"sum(rate(refract_ranker_explanations_total{{{NS}}}[$__rate_interval]))", "explanations")]),
        ("Explanations per request", "Long slates cost more.", "short",
         [(f"sum(rate(refract_ranker_explanations_total{{{NS}}}[$__rate_interval])) / sum(rate(refract_ranker_request_seconds_count{{{NS}}}[$__rate_interval]))", "per request")]),
        ("Calls by outcome", "At the front door, by status code. CANCELLED is a caller who left.", "reqps",
         [(f'sum by (code) (rate(refract_wire_calls_total{{{NS},service="refract.recommend.v1.RecommendService"}}[$__rate_interval]))', "{{code}}")]),
        ("Handshakes refused", "Connections that did not get through TLS, by reason; who only looks in counts, too.", "ops",
         rate("refract_net_handshakes_refused_total", "reason")),
        ("Time of a call", "At the front door, to the last byte, by method.", "s", quantiles("refract_wire_call_seconds", "method")),
        ("Time to the slate", "Ranking alone. The slate never waits for explanations.", "s", quantiles("refract_ranker_rank_seconds")),
        ("Time to the end", "The whole stream.", "s", quantiles("refract_ranker_request_seconds")),
        ("Room at the front door", "Items that may be in progress, which follows how fast they get done, and those that are; requests explained by rule alone for want of room, and requests refused.", "short",
         [(f"sum(refract_ranker_room_items{{{NS}}})", "room"), (f"sum(refract_ranker_items_in_progress{{{NS}}})", "in progress"),
          (f"sum(rate(refract_ranker_requests_by_rule_total{{{NS}}}[$__rate_interval]))", "by rule/s"),
          (f"sum(rate(refract_ranker_requests_shed_total{{{NS}}}[$__rate_interval]))", "refused/s")]),
    ]),
    ("Is it the memory?", [
        ("Look-ups by outcome", "l1 and hit cost nothing; stale is served and refreshed; miss asks the Oracle.", "ops",
         rate("refract_knowledge_lookups_total", "outcome")),
        ("Remembered", "Share of look-ups answered from memory.", "percentunit",
         [(f'sum(rate(refract_knowledge_lookups_total{{{NS},outcome=~"l1|hit|stale"}}[$__rate_interval])) / sum(rate(refract_knowledge_lookups_total{{{NS}}}[$__rate_interval]))', "share")]),
        ("Store reachable", "1 while it answers, by ranker. Rankers that run without it say so in the second series.", "short",
         [(f"refract_knowledge_store_up{{{NS}}}", "up {{pod}}"), (f"refract_ranker_knowledge_degraded{{{NS}}}", "degraded {{pod}}"),
          (f"sum by (state) (refract_knowledge_store_nodes{{{NS}}})", "servers {{state}}")]),
        ("Time of a store command", "get is given up after 15 ms.", "s", quantiles("refract_knowledge_store_seconds", "command")),
        ("Store errors and connections", "By reason; attempts to connect by outcome.", "ops",
         rate("refract_knowledge_store_errors_total", "reason") + rate("refract_knowledge_store_connections_total", "outcome")
         + rate("refract_knowledge_store_redirects_total", "kind")),
        ("Writes by outcome", "dropped means that the writer cannot keep up.", "ops", rate("refract_knowledge_writes_total", "outcome")),
        ("Refreshes by outcome", "Stale knowledge renewed in the background.", "ops", rate("refract_knowledge_refreshes_total", "outcome")),
        ("Refused and pushed out", "Values that are not ours, and entries that newer ones replaced.", "ops",
         rate("refract_knowledge_corrupt_total", "reason") + rate("refract_knowledge_evictions_total", "cache")),
    ]),
    ("Is it the Oracle?", [
        ("Questions before the Oracle", "Distinct ones, seen by the rankers: the miss backlog that KEDA scales on.", "short",
         [(f"sum(refract_knowledge_flights{{{NS}}})", "questions")]),
        ("Oracle left alone", "Rankers whose breaker keeps questions from the Oracle, because it failed or was silent.", "short",
         [(f"sum(refract_ranker_oracle_held_back{{{NS}}})", "rankers")]),
        ("Callers by role", "led asked, joined waited for the same answer, refused found the queue full. Across rankers: led asked, followed found another's answer, overdue waited in vain.", "ops",
         rate("refract_knowledge_flights_total", "role")
         + [(e, f"lease {n}") for e, n in rate("refract_knowledge_leases_total", "role")]),
        ("Time the Oracle took", "Seen by the rankers, network included.", "s", quantiles("refract_knowledge_consult_seconds", "outcome")),
        ("Look-up without the Oracle", "Memory's own share of the time.", "s", quantiles("refract_knowledge_lookup_seconds", "outcome")),
        ("Facts", "Told, and refused because the evidence does not carry them.", "ops",
         [(f"sum(rate(refract_oracle_facts_total{{{NS}}}[$__rate_interval]))", "told"),
          (f"sum(rate(refract_oracle_facts_refused_total{{{NS}}}[$__rate_interval]))", "refused"),
          (f"sum(rate(refract_knowledge_unhelpful_total{{{NS}}}[$__rate_interval]))", "not asked again")]),
        *engine("oracle"),
    ]),
    ("Is it the Prisms?", [
        *engine("prism"),
        ("Sentences refused", "Written and withheld, by reason: what the truth gate caught.", "ops",
         rate("refract_prism_sentences_refused_total", "reason")),
    ]),
]  # fmt: skip


def dashboard() -> dict:
    panels, top = [], 0
    for title, group in ROWS:
        panels.append({"type": "row", "title": title, "collapsed": False, "panels": [], "gridPos": {"x": 0, "y": top, "w": 24, "h": 1}})
        top += 1
        for place, (name, manual, unit, queries) in enumerate(group):
            if place and place % 4 == 0:
                top += 7
            panels.append({
                "type": "timeseries", "title": name, "description": manual, "datasource": SOURCE,
                "gridPos": {"x": 6 * (place % 4), "y": top, "w": 6, "h": 7},
                "fieldConfig": {"defaults": {"unit": unit, "min": 0, "custom": {"fillOpacity": 8, "showPoints": "never"}}, "overrides": []},
                "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}},
                "targets": [{"refId": chr(ord("A") + i), "expr": e, "legendFormat": n, "datasource": SOURCE} for i, (e, n) in enumerate(queries)],
            })  # fmt: skip
        top += 7
    for number, panel in enumerate(panels, 1):
        panel["id"] = number
    return {
        "uid": "refract", "title": "Refract", "tags": ["refract"], "schemaVersion": 39, "version": 1, "editable": True,
        "timezone": "", "refresh": "30s", "time": {"from": "now-1h", "to": "now"}, "annotations": {"list": []}, "links": [],
        "templating": {"list": [
            {"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus", "hide": 0},
            {"name": "namespace", "label": "Namespace", "type": "query", "datasource": SOURCE, "refresh": 2, "hide": 0,
             "query": {"query": "label_values(refract_ranker_request_seconds_count, namespace)", "refId": "namespaces"}},
            {"name": "release", "label": "Release", "type": "query", "datasource": SOURCE, "refresh": 2, "hide": 0, "includeAll": True, "allValue": ".*",
             "current": {"text": "All", "value": "$__all"},
             "query": {"query": 'label_values(refract_ranker_request_seconds_count{namespace="$namespace"}, release)', "refId": "releases"}},
        ]},
        "panels": panels,
    }  # fmt: skip


def generated() -> dict[Path, str]:
    return {FOLDER / "refract.json": json.dumps(dashboard(), indent=1, ensure_ascii=False) + "\n"}
