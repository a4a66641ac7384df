{{/*
Who may call whom: the one table that the network policies are drawn from. `from` and `to` name a component of this release
(ranker, oracle, prism, store, test, distillation) or a group of peers outside it, listed in `networkPolicy` (clients,
monitoring, collector, downloads; elsewhere.oracle and its like), the external store, the teacher's endpoint, or DNS. Only rows that
this release needs are there.
*/}}
{{- define "refract.calls" -}}
{{- $roles := (include "refract.roles" . | fromJson).roles -}}
{{- $otlp := dig "otlp_endpoint" "" .Values.telemetry -}}
calls:
  - {from: clients, to: ranker, port: data}
  - {from: test, to: ranker, port: data}
  - {from: test, to: dns}
  - {from: ranker, to: dns}
  {{- range without $roles "ranker" }}
  - {from: ranker, to: {{ . }}, port: data}
  {{- end }}
  {{- range $name, $target := (include "refract.targetsElsewhere" . | fromYaml) }}
  {{- range include "refract.targetPorts" $target | fromJsonArray }}
  - {from: ranker, to: elsewhere.{{ $name }}, number: {{ . }}}
  {{- end }}
  {{- end }}
  {{- if eq .Values.knowledge.store "dev" }}
  - {from: ranker, to: store, port: data}
  {{- else if eq .Values.knowledge.store "external" }}
  {{- range include "refract.storePorts" . | fromJsonArray }}
  - {from: ranker, to: externalStore, number: {{ . }}}
  {{- end }}
  {{- end }}
  {{- range $roles }}
  - {from: monitoring, to: {{ . }}, port: admin}
  {{- if $otlp }}
  - {from: {{ . }}, to: collector, number: {{ include "refract.urlPort" $otlp }}}
  {{- end }}
  {{- $files := ternary $.Values.ranker.data (index $.Values .).bundle (eq . "ranker") }}
  {{- $download := eq $files.source "download" }}
  {{- if $download }}
  - {from: {{ . }}, to: downloads, number: {{ include "refract.urlPort" $files.download.url }}}
  {{- end }}
  {{- if and (or $download $otlp) (ne . "ranker") }}
  - {from: {{ . }}, to: dns}
  {{- end }}
  {{- end }}
  {{- with .Values.distillation }}
  {{- if .enabled }}
  {{- if eq .teacher "oracle" }}
  - {from: distillation, to: oracle, port: data}
  {{- else if eq .teacher "endpoint" }}
  - {from: distillation, to: endpoint, number: {{ include "refract.urlPort" .endpoint.url }}}
  {{- end }}
  {{- $urls := list }}
  {{- if eq $.Values.ranker.data.source "download" }}{{ $urls = append $urls $.Values.ranker.data.download.url }}{{ end }}
  {{- if and (eq .teacher "bundle") (eq .bundle.source "download") }}{{ $urls = append $urls .bundle.download.url }}{{ end }}
  {{- range $urls }}
  - {from: distillation, to: downloads, number: {{ include "refract.urlPort" . }}}
  {{- end }}
  {{- if or $urls (ne .teacher "bundle") }}
  - {from: distillation, to: dns}
  {{- end }}
  {{- end }}
  {{- end }}
{{- end }}

{{/* What the ranker dials and this release does not run: targets by their name in the configuration, as YAML. */}}
{{- define "refract.targetsElsewhere" -}}
{{- $targets := dict -}}
{{- range $name := list "oracle" "prism" "outside" -}}
{{- with dig $name "target" "" $.Values.ranker.config }}{{ $_ := set $targets $name . }}{{ end -}}
{{- end -}}
{{ toYaml $targets }}
{{- end }}

{{/* Takes a target ("dns:a:1", "a:1,b:2"). Its ports, as JSON. */}}
{{- define "refract.targetPorts" -}}
{{- $ports := list -}}
{{- range splitList "," . }}{{ with regexFind "[0-9]+$" (trimSuffix "/" (trim .)) }}{{ $ports = append $ports (int .) }}{{ end }}{{ end -}}
{{ uniq $ports | toJson }}
{{- end }}

{{/* The ports of the external store's servers and sentinels, as JSON. */}}
{{- define "refract.storePorts" -}}
{{- with .Values.knowledge.external -}}
{{- $ports := list (int .port) -}}
{{- if eq .mode "sentinel" }}{{ $ports = append $ports (int .sentinelPort) }}{{ end -}}
{{- range include "refract.targetPorts" (join "," .seeds) | fromJsonArray }}{{ $ports = append $ports (int .) }}{{ end -}}
{{ uniq $ports | toJson }}
{{- end -}}
{{- end }}

{{/* Takes a URL. */}}
{{- define "refract.urlPort" -}}
{{- $host := (urlParse .).host -}}
{{- default (ternary "80" "443" (hasPrefix "http:" .)) (regexFind "[0-9]+$" (regexFind ":[0-9]+$" $host)) -}}
{{- end }}

{{/* dict root, name. Who that is, as a list under `peers`. Nobody where the list is empty; only DNS is anywhere. */}}
{{- define "refract.peers" -}}
{{- if has .name (list "ranker" "oracle" "prism" "store" "test" "distillation") -}}
peers:
  - podSelector:
      matchLabels:
        {{- include "refract.selector" (dict "root" .root "component" .name) | nindent 8 }}
{{- else if eq .name "externalStore" -}}
peers:
  {{- toYaml .root.Values.knowledge.external.peers | nindent 2 }}
{{- else if eq .name "endpoint" -}}
peers:
  {{- toYaml .root.Values.distillation.endpoint.peers | nindent 2 }}
{{- else if hasPrefix "elsewhere." .name -}}
peers:
  {{- toYaml (index .root.Values.networkPolicy.elsewhere (trimPrefix "elsewhere." .name)) | nindent 2 }}
{{- else if eq .name "dns" -}}
anywhere: true
{{- else -}}
peers:
  {{- toYaml (index .root.Values.networkPolicy .name) | nindent 2 }}
{{- end }}
{{- end }}

{{/* dict root, call. The ports of a row. */}}
{{- define "refract.callPorts" -}}
{{- if eq .call.to "dns" -}}
- {port: 53, protocol: UDP}
- {port: 53, protocol: TCP}
{{- else -}}
- port: {{ if .call.number }}{{ .call.number }}{{ else }}{{ include "refract.port" (dict "root" .root "component" .call.to "port" .call.port) }}{{ end }}
  protocol: TCP
{{- end -}}
{{- end }}
