{{/* Names, labels, images, ports: what every object needs. Each takes the root context unless it says otherwise. */}}

{{- define "refract.name" -}}
{{ default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{/* The prefix of object names. A release may be called `shop.v2`; a Service may not. */}}
{{- define "refract.fullname" -}}
{{- $name := .Values.fullnameOverride -}}
{{- if not $name -}}
{{- $name = ternary .Release.Name (printf "%s-%s" .Release.Name (include "refract.name" .)) (contains (include "refract.name" .) .Release.Name) -}}
{{- end -}}
{{ $name | replace "." "-" | trunc 40 | trimSuffix "-" }}
{{- end }}

{{/* dict root, component. Never changes over the life of a release: Deployments select by it. */}}
{{- define "refract.selector" -}}
app.kubernetes.io/name: {{ include "refract.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* dict root, component (optional) */}}
{{- define "refract.labels" -}}
{{- if .component -}}
{{ include "refract.selector" . }}
{{- else -}}
app.kubernetes.io/name: {{ include "refract.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- end }}
app.kubernetes.io/part-of: refract
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* dict root, component. Without what changes with every chart: pods are not restarted for a label. */}}
{{- define "refract.podLabels" -}}
{{ include "refract.selector" . }}
app.kubernetes.io/part-of: refract
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "refract.serviceAccountName" -}}
{{ default (ternary (include "refract.fullname" .) "default" .Values.serviceAccount.create) .Values.serviceAccount.name }}
{{- end }}

{{/* dict image, tag (the default one) */}}
{{- define "refract.imageOf" -}}
{{- if .image.digest -}}
{{ .image.repository }}@{{ .image.digest }}
{{- else -}}
{{ .image.repository }}:{{ default .tag .image.tag }}
{{- end -}}
{{- end }}

{{/* dict root, role. The cuda image is linked with the driver's library, which only a container with a GPU is given:
anywhere else it would not start. */}}
{{- define "refract.image" -}}
{{- $image := .root.Values.image }}{{ $tag := .root.Chart.AppVersion -}}
{{- if dig "gpu" "enabled" false (index .root.Values .role) -}}
{{- $image = merge (dict "repository" $image.repository) $image.cuda }}{{ $tag = printf "%s-cuda" $tag -}}
{{- end -}}
{{ include "refract.imageOf" (dict "image" $image "tag" $tag) }}
{{- end }}

{{/* Of every component, in one place: probes, Services, policies, monitors and configuration all take them from here. */}}
{{- define "refract.ports" -}}
ranker: {data: 7001, admin: 7101}
oracle: {data: 7002, admin: 7102}
prism: {data: 7003, admin: 7103}
store: {data: 6379}
{{- end }}

{{/* dict root, component, port ("data" or "admin") */}}
{{- define "refract.port" -}}
{{ index (include "refract.ports" .root | fromYaml) .component .port }}
{{- end }}

{{/* The roles that this release runs, as JSON. */}}
{{- define "refract.roles" -}}
{{- $roles := list "ranker" -}}
{{- range list "oracle" "prism" }}{{ if (index $.Values .).enabled }}{{ $roles = append $roles . }}{{ end }}{{ end -}}
{{ dict "roles" $roles | toJson }}
{{- end }}

{{/* dict root, component. Name of the headless Service, with every ready pod behind it: our clients balance themselves. */}}
{{- define "refract.target" -}}
dns:{{ include "refract.fullname" .root }}-{{ .component }}-headless.{{ .root.Release.Namespace }}.svc.{{ .root.Values.clusterDomain }}:{{ include "refract.port" (dict "root" .root "component" .component "port" "data") }}
{{- end }}

{{/* dict root, component. The name in a role's certificate, and of its Service with one address. */}}
{{- define "refract.host" -}}
{{ include "refract.fullname" .root }}-{{ .component }}.{{ .root.Release.Namespace }}.svc.{{ .root.Values.clusterDomain }}
{{- end }}

{{/* dict root, role. The Secret with the role's certificate. */}}
{{- define "refract.tlsSecret" -}}
{{- if eq .root.Values.tls.source "existingSecrets" -}}
{{ index .root.Values.tls.existingSecrets .role }}
{{- else -}}
{{ include "refract.fullname" .root }}-{{ .role }}-tls
{{- end -}}
{{- end }}

{{- define "refract.knowledgeSecret" -}}
{{ default (printf "%s-knowledge" (include "refract.fullname" .)) .Values.knowledge.existingSecret }}
{{- end }}

{{/* A duration as the program reads it ("250ms", "1m 30s"), in seconds. Takes the text. */}}
{{- define "refract.seconds" -}}
{{- $unit := dict "ms" 0.001 "s" 1.0 "sec" 1.0 "m" 60.0 "min" 60.0 "h" 3600.0 -}}
{{- $sum := 0.0 -}}
{{- range regexFindAll "[0-9]+ *[a-z]+" (toString .) -1 -}}
{{- $factor := get $unit (regexFind "[a-z]+" .) -}}
{{- if $factor }}{{ $sum = addf $sum (mulf (regexFind "[0-9]+" . | float64) $factor) }}{{ end -}}
{{- end -}}
{{ $sum }}
{{- end }}
