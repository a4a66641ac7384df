{{/* refract.toml: what the chart knows (ports, peers, secrets, times), over what `<role>.config` says. */}}

{{/* dict path, value. Scalars first, then tables, as TOML wants it. JSON's strings, numbers and lists are TOML's too. */}}
{{- define "refract.toml" -}}
{{- $path := .path -}}
{{- $scalars := dict }}{{ $tables := dict -}}
{{- range $key, $value := .value -}}
{{- if kindIs "map" $value }}{{ $_ := set $tables $key $value }}{{ else if not (kindIs "invalid" $value) }}{{ $_ := set $scalars $key $value }}{{ end -}}
{{- end -}}
{{- if $scalars }}

[{{ $path }}]
{{- range $key, $value := $scalars }}
{{ $key }} = {{ toJson $value }}
{{- end }}
{{- end }}
{{- range $key, $value := $tables }}
{{- include "refract.toml" (dict "path" (printf "%s.%s" $path $key) "value" $value) }}
{{- end }}
{{- end }}

{{/* dict root, role. The times by which a pod leaves, all from `drainSeconds`. */}}
{{- define "refract.leaving" -}}
{{- $finish := (index .root.Values .role).drainSeconds | int -}}
{{- $preStop := 5 }}{{/* endpoints are forgotten everywhere */ -}}
{{- $lameduck := 5 }}{{/* callers who watch health hear NOT_SERVING */ -}}
{{- $margin := 15 }}{{/* last spans and metrics are sent, connections closed, a slow node tolerated */ -}}
preStop: {{ $preStop }}
lameduck: {{ $lameduck }}
finish: {{ $finish }}
grace: {{ add $preStop $lameduck $finish $margin }}
{{- end }}

{{/* dict root, role. What the chart itself decides. */}}
{{- define "refract.ownConfig" -}}
{{- $root := .root }}{{ $role := .role -}}
{{- $values := index $root.Values $role -}}
{{- $leaving := include "refract.leaving" . | fromYaml -}}
listen:
  address: {{ printf "%s:%s" $root.Values.bindAddress (include "refract.port" (dict "root" $root "component" $role "port" "data")) | quote }}
  {{- if ne $root.Values.tls.source "none" }}
  tls:
    cert_file: /etc/refract/tls/tls.crt
    key_file: /etc/refract/tls/tls.key
    {{- if or (ne $role "ranker") $root.Values.tls.clientCertificates }}
    client_ca_file: /etc/refract/tls/ca.crt
    {{- end }}
  {{- end }}
{{- if and (eq $role "ranker") $root.Values.callers.existingSecret }}
callers:
  file: /etc/refract/callers/callers.toml
{{- else if and (ne $role "ranker") (ne $root.Values.tls.source "none") }}
callers:
  file: /etc/refract/callers.toml
{{- end }}
process:
  warm_up_max: {{ $values.startupSeconds }}s
  admin:
    address: {{ printf "%s:%s" $root.Values.bindAddress (include "refract.port" (dict "root" $root "component" $role "port" "admin")) | quote }}
  drain:
    lameduck: {{ $leaving.lameduck }}s
    finish_max: {{ $leaving.finish }}s
{{- if eq $role "ranker" }}
data: {{ include "refract.filesPath" (dict "files" $values.data "shipped" "data") }}
{{- if eq $values.data.source "image" }}
model: /usr/share/refract/demo/ranker
{{- else if $values.trained }}
model: {{ include "refract.filesPath" (dict "files" $values.data "shipped" "data") }}/ranker
{{- end }}
{{- range list "oracle" "prism" }}
{{- if (index $root.Values .).enabled }}
{{ . }}:
  target: {{ include "refract.target" (dict "root" $root "component" .) }}
  dial:
    # Addresses of pods come and go faster than the program's own default expects.
    resolve_every: {{ dig . "dial" "resolve_every" "1s" $values.config }}
    {{- if ne $root.Values.tls.source "none" }}
    tls:
      ca_file: /etc/refract/tls/ca.crt
      cert_file: /etc/refract/tls/tls.crt
      key_file: /etc/refract/tls/tls.key
      server_name: {{ include "refract.host" (dict "root" $root "component" .) }}
    {{- end }}
{{- end }}
{{- end }}
knowledge:
  store: {{ ternary "memory" "redis" (eq $root.Values.knowledge.store "memory") }}
  {{- if or (ne $root.Values.knowledge.store "memory") $root.Values.knowledge.existingSecret }}
  secret_file: /etc/refract/knowledge/secret
  {{- end }}
  {{- if eq $root.Values.knowledge.store "external" }}
  redis:
    url_file: /etc/refract/knowledge/url
    {{- with $root.Values.knowledge.external }}
    mode: {{ .mode }}
    {{- if ne .mode "standalone" }}
    seeds: {{ toJson .seeds }}
    {{- end }}
    {{- if eq .mode "sentinel" }}
    sentinel_master: {{ .sentinelMaster | quote }}
    {{- if .sentinelCredentialKey }}
    sentinel_credential_file: /etc/refract/knowledge/sentinel
    {{- end }}
    {{- end }}
    {{- if .caKey }}
    ca_file: /etc/refract/knowledge/ca.crt
    {{- end }}
    {{- if .certKey }}
    cert_file: /etc/refract/knowledge/tls.crt
    key_file: /etc/refract/knowledge/tls.key
    {{- end }}
    {{- end }}
  {{- else if eq $root.Values.knowledge.store "dev" }}
  redis:
    url: redis://{{ include "refract.fullname" $root }}-store.{{ $root.Release.Namespace }}.svc.{{ $root.Values.clusterDomain }}:{{ include "refract.port" (dict "root" $root "component" "store" "port" "data") }}
  {{- end }}
{{- else }}
worker:
  bundle: {{ include "refract.filesPath" (dict "files" $values.bundle "shipped" $role) }}
  {{- if $values.gpu.enabled }}
  # The device plugin shows a container its own GPUs alone, numbered from 0.
  devices:
    {{- range $number := until (int $values.gpu.count) }}
    - cuda:{{ $number }}
    {{- end }}
  {{- end }}
{{- end }}
{{- end }}

{{/* dict root, role */}}
{{- define "refract.config" -}}
{{- $config := mergeOverwrite (deepCopy (index .root.Values .role).config) (include "refract.ownConfig" . | fromYaml) -}}
# Made by the chart; the manual is `refract serve {{ .role }} --print-config` and the configuration's own documentation.
{{- include "refract.toml" (dict "path" .role "value" $config) }}
{{- include "refract.toml" (dict "path" "telemetry" "value" .root.Values.telemetry) }}
{{- end }}

{{/* dict root. Who may call the Oracle and the Prisms: the ranker, by the name in its certificate. */}}
{{- define "refract.innerCallers" -}}
[[certificate]]
name = {{ include "refract.host" (dict "root" .root "component" "ranker") | quote }}
tenant = "default"
{{- end }}
