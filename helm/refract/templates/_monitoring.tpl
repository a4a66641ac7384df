{{/*
Takes a monitor's block. By the label `component` rules, scalers and dashboards tell the roles apart, by `release` one release of a
namespace from another.
*/}}
{{- define "refract.endpoint" -}}
- port: admin
  path: /metrics
  interval: {{ .interval }}
  scrapeTimeout: {{ .scrapeTimeout }}
  relabelings:
    - sourceLabels: [__meta_kubernetes_pod_label_app_kubernetes_io_component]
      targetLabel: component
    - sourceLabels: [__meta_kubernetes_pod_label_app_kubernetes_io_instance]
      targetLabel: release
    {{- with .relabelings }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with .metricRelabelings }}
  metricRelabelings:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}

{{/* The labels of what this release's pods say, for a query's braces. */}}
{{- define "refract.ours" -}}
namespace="{{ .Release.Namespace }}",release="{{ .Release.Name }}"
{{- end }}

{{/*
What there is to watch, as JSON: the roles of this release; `anOracle`, here or elsewhere; a `store` that holds what it said; a `writer`
of explanations, here or elsewhere.
*/}}
{{- define "refract.watched" -}}
{{- $watched := (include "refract.roles" . | fromJson).roles -}}
{{- $elsewhere := include "refract.targetsElsewhere" . | fromYaml -}}
{{- $oracle := or .Values.oracle.enabled (hasKey $elsewhere "oracle") -}}
{{- $oracleWrites := and $oracle (eq (dig "river" "mode" "conditioned" .Values.ranker.config) "oracle") -}}
{{- if $oracle }}{{ $watched = append $watched "anOracle" }}{{ end -}}
{{- if and $oracle (ne .Values.knowledge.store "memory") }}{{ $watched = append $watched "store" }}{{ end -}}
{{- if or .Values.prism.enabled (hasKey $elsewhere "prism") $oracleWrites }}{{ $watched = append $watched "writer" }}{{ end -}}
{{ toJson $watched }}
{{- end }}

{{/*
The alerts. Each is there when any one of its `needs` is; `OURS` stands for the labels of this release's metrics. Each has a section
of the same name in docs/runbooks.md, and a unit test in tests/chart/alerts.py.
*/}}
{{- define "refract.alerts" -}}
alerts:
  RefractRankerDown:
    needs: [ranker]
    severity: critical
    for: 1m
    expr: (count(up{component="ranker",OURS} == 1) or vector(0)) == 0
    summary: No ranker answers. Nothing can be recommended.
  RefractSlatesSlow:
    needs: [ranker]
    severity: warning
    for: 10m
    expr: histogram_quantile(0.99, sum by (le) (rate(refract_ranker_rank_seconds_bucket{OURS}[5m]))) > 0.5
    summary: Ranking takes longer than half a second for one request in a hundred.
  RefractRankerFailing:
    needs: [ranker]
    severity: critical
    for: 5m
    expr: >-
      sum(rate(refract_wire_calls_total{OURS,service="refract.recommend.v1.RecommendService",code=~"UNKNOWN|DEADLINE_EXCEEDED|INTERNAL|UNAVAILABLE|DATA_LOSS"}[5m]))
      / sum(rate(refract_wire_calls_total{OURS,service="refract.recommend.v1.RecommendService"}[5m])) > 0.01
    summary: More than one call in a hundred fails at the front door for a reason that is not the caller's.
  RefractExplanationsPoor:
    needs: [writer]
    severity: warning
    for: 10m
    expr: >-
      sum(rate(refract_ranker_explanations_total{OURS,rung=~"RUNG_TEMPLATE|RUNG_NONE"}[10m]))
      / sum(rate(refract_ranker_explanations_total{OURS}[10m])) > 0.1
    summary: More than a tenth of the explanations are templates or missing.
  RefractOracleDown:
    needs: [oracle]
    severity: warning
    for: 5m
    expr: (count(up{component="oracle",OURS} == 1) or vector(0)) == 0
    summary: No Oracle answers. Remembered knowledge is served, new pairs are explained from the history alone.
  RefractOracleShedding:
    needs: [oracle]
    severity: warning
    for: 10m
    expr: sum(rate(refract_engine_refused_total{engine="oracle",OURS}[5m])) > 0.1
    summary: The Oracle refuses questions because its queue is full.
  RefractOracleFailing:
    needs: [anOracle]
    severity: warning
    for: 10m
    expr: >-
      sum(rate(refract_knowledge_consult_seconds_count{OURS,outcome="failed"}[5m]))
      / sum(rate(refract_knowledge_consult_seconds_count{OURS}[5m])) > 0.1
    summary: More than a tenth of the questions to the Oracle fail.
  RefractPrismDown:
    needs: [prism]
    severity: critical
    for: 2m
    expr: (count(up{component="prism",OURS} == 1) or vector(0)) == 0
    summary: No Prism answers. All explanations are templates.
  RefractPrismShedding:
    needs: [prism]
    severity: warning
    for: 5m
    expr: sum(rate(refract_engine_refused_total{engine="prism",OURS}[5m])) > 0.1
    summary: The Prisms refuse explanations because their queues are full.
  RefractQueueSlow:
    needs: [oracle, prism]
    severity: warning
    for: 10m
    expr: histogram_quantile(0.95, sum by (engine, le) (rate(refract_engine_queue_seconds_bucket{OURS}[5m]))) > 1
    summary: One sequence in twenty waits longer than a second before its engine begins.
  RefractModelFaults:
    needs: [oracle, prism]
    severity: critical
    for: 0m
    expr: sum by (engine, pod) (increase(refract_engine_model_faults_total{OURS}[10m])) > 0
    summary: A model or its device failed on sequences.
  RefractStoreDown:
    needs: [store]
    severity: warning
    for: 5m
    expr: min(refract_knowledge_store_up{OURS}) == 0
    summary: A ranker cannot reach the knowledge store. It asks the Oracle for everything that it has not in its own memory.
  RefractStoreSlow:
    needs: [store]
    severity: warning
    for: 10m
    expr: histogram_quantile(0.95, sum by (le) (rate(refract_knowledge_store_seconds_bucket{OURS,command="get"}[5m]))) > 0.01
    summary: One look-up in twenty takes more than 10 ms; from 15 ms on it counts as a miss.
  RefractKnowledgeCorrupt:
    needs: [store]
    severity: critical
    for: 0m
    expr: sum(increase(refract_knowledge_corrupt_total{OURS}[10m])) > 0
    summary: The store holds values that Refract did not write, or not with this secret.
  RefractKnowledgeNotWritten:
    needs: [anOracle]
    severity: warning
    for: 15m
    expr: >-
      sum(rate(refract_knowledge_writes_total{OURS,outcome!="ok"}[10m]))
      / sum(rate(refract_knowledge_writes_total{OURS}[10m])) > 0.1
    summary: More than a tenth of what the Oracle says is not remembered.
  RefractKnowledgeRarelyRemembered:
    needs: [anOracle]
    severity: info
    for: 1h
    expr: >-
      sum(rate(refract_knowledge_lookups_total{OURS,outcome=~"l1|hit|stale"}[30m]))
      / sum(rate(refract_knowledge_lookups_total{OURS}[30m])) < 0.3
    summary: Fewer than three in ten questions are answered from memory.
  RefractCertificateEnds:
    needs: [ranker]
    severity: warning
    for: 1h
    expr: min by (pod, use) (refract_net_certificate_expiry_seconds{OURS} - time()) < 604800
    summary: A certificate in force ends within seven days, and no newer one has been taken.
  RefractRequestsShed:
    needs: [ranker]
    severity: warning
    for: 10m
    expr: >-
      sum(rate(refract_ranker_requests_shed_total{OURS}[5m]))
      / sum(rate(refract_wire_calls_total{OURS,service="refract.recommend.v1.RecommendService"}[5m])) > 0.05
    summary: The front door refuses more than one request in twenty, because there is more to do than can be done in time.
  RefractTruthRefusing:
    needs: [prism]
    severity: warning
    for: 30m
    expr: >-
      sum(rate(refract_prism_sentences_refused_total{OURS}[15m]))
      / sum(rate(refract_ranker_explanations_total{OURS}[15m])) > 0.5
    summary: The Prisms write many sentences that the evidence does not carry. They are withheld; the model deserves a look.
{{- end }}
