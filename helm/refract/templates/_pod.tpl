{{/* The pod of a role, and the Deployment, Service and budget around it: the same shape three times. */}}

{{/* Takes whether the root file system is read-only. */}}
{{- define "refract.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: {{ . }}
capabilities: {drop: [ALL]}
{{- end }}

{{- define "refract.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{/* dict root, role. The user's affinity, with the demands on GPUs put into every required term. */}}
{{- define "refract.affinity" -}}
{{- $values := index .root.Values .role -}}
{{- $affinity := deepCopy $values.affinity -}}
{{- $gpu := default dict $values.gpu -}}
{{- if $gpu.enabled -}}
{{- $demands := list -}}
{{- with $gpu.products }}{{ $demands = append $demands (dict "key" "nvidia.com/gpu.product" "operator" "In" "values" .) }}{{ end -}}
{{- with $gpu.nodeCountMin }}{{ $demands = append $demands (dict "key" "nvidia.com/gpu.count" "operator" "Gt" "values" (list (sub (int .) 1 | toString))) }}{{ end -}}
{{- with $gpu.memoryMiBMin }}{{ $demands = append $demands (dict "key" "nvidia.com/gpu.memory" "operator" "Gt" "values" (list (sub (int .) 1 | toString))) }}{{ end -}}
{{- if $demands -}}
{{- $required := dig "nodeAffinity" "requiredDuringSchedulingIgnoredDuringExecution" dict $affinity -}}
{{- $terms := list -}}
{{- range (default (list dict) $required.nodeSelectorTerms) -}}
{{- $terms = append $terms (mergeOverwrite (deepCopy .) (dict "matchExpressions" (concat (default list .matchExpressions) $demands))) -}}
{{- end -}}
{{- $affinity = mergeOverwrite $affinity (dict "nodeAffinity" (dict "requiredDuringSchedulingIgnoredDuringExecution" (dict "nodeSelectorTerms" $terms))) -}}
{{- end -}}
{{- end -}}
{{- with $affinity }}{{ toYaml . }}{{ end -}}
{{- end }}

{{/* dict root, role */}}
{{- define "refract.resources" -}}
{{- $values := index .root.Values .role -}}
{{- $resources := deepCopy $values.resources -}}
{{- $gpu := default dict $values.gpu -}}
{{- if $gpu.enabled -}}
{{- $resources = mergeOverwrite $resources (dict "limits" (dict $gpu.resource $gpu.count)) -}}
{{- end -}}
{{ toYaml $resources }}
{{- end }}

{{/* dict root, role. Where the pods may run, and with what rights to pull images. */}}
{{- define "refract.placement" -}}
{{- $root := .root }}{{ $values := index $root.Values .role -}}
{{- $gpu := default dict $values.gpu -}}
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- if and $gpu.enabled $gpu.runtimeClassName }}
runtimeClassName: {{ $gpu.runtimeClassName }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with include "refract.affinity" . }}
affinity:
  {{- . | nindent 2 }}
{{- end }}
{{- if or $values.tolerations $gpu.enabled }}
tolerations:
  {{- if $gpu.enabled }}
  - {key: nvidia.com/gpu, operator: Exists, effect: NoSchedule}
  {{- end }}
  {{- with $values.tolerations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
{{- end }}

{{/* dict root, role */}}
{{- define "refract.podTemplate" -}}
{{- $root := .root }}{{ $role := .role }}{{ $values := index $root.Values $role -}}
{{- $gpu := default dict $values.gpu -}}
{{- $files := ternary $values.data $values.bundle (eq $role "ranker") -}}
{{- $leaving := include "refract.leaving" . | fromYaml -}}
{{- $knowledge := and (eq $role "ranker") (or (ne $root.Values.knowledge.store "memory") $root.Values.knowledge.existingSecret) -}}
{{- $secured := ne $root.Values.tls.source "none" -}}
{{- $callers := and (eq $role "ranker") $root.Values.callers.existingSecret -}}
{{- $admin := include "refract.port" (dict "root" $root "component" $role "port" "admin") | int -}}
{{- $with := dict "root" $root "component" $role -}}
metadata:
  annotations:
    checksum/config: {{ include "refract.config" . | sha256sum }}
    {{- with $values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  labels:
    {{- include "refract.podLabels" $with | nindent 4 }}
    {{- with $values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "refract.serviceAccountName" $root }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ $leaving.grace }}
  # Our names are whole: no search through the suffixes first.
  dnsConfig:
    options: [{name: ndots, value: "2"}]
  securityContext:
    {{- include "refract.podSecurity" $root | nindent 4 }}
  {{- with include "refract.placement" . | trim }}
  {{- . | nindent 2 }}
  {{- end }}
  {{- $spread := $values.topologySpread }}
  {{- if or (ne $spread.zone "off") (ne $spread.node "off") }}
  topologySpreadConstraints:
    {{- range $key, $when := dict "topology.kubernetes.io/zone" $spread.zone "kubernetes.io/hostname" $spread.node }}
    {{- if ne $when "off" }}
    - topologyKey: {{ $key }}
      maxSkew: 1
      whenUnsatisfiable: {{ $when }}
      labelSelector:
        matchLabels:
          {{- include "refract.selector" $with | nindent 10 }}
      matchLabelKeys: [pod-template-hash]
    {{- end }}
    {{- end }}
  {{- end }}
  {{- with include "refract.filesInit" (dict "root" $root "files" $files) | trim }}
  initContainers:
    {{- . | nindent 4 }}
  {{- end }}
  containers:
    - name: {{ $role }}
      image: {{ include "refract.image" . }}
      imagePullPolicy: {{ $root.Values.image.pullPolicy }}
      args: [serve, {{ $role }}, --config, /etc/refract/refract.toml]
      {{- with $values.extraEnv }}
      env:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      ports:
        - {name: grpc, containerPort: {{ include "refract.port" (dict "root" $root "component" $role "port" "data") }}}
        - {name: admin, containerPort: {{ $admin }}}
      # Loading belongs to the startup probe alone; the others begin when it has passed.
      startupProbe:
        grpc: {port: {{ $admin }}, service: ready}
        periodSeconds: 5
        timeoutSeconds: 2
        failureThreshold: {{ div (add ($values.startupSeconds | int) 4) 5 }}
      readinessProbe:
        grpc: {port: {{ $admin }}, service: ready}
        periodSeconds: 5
        timeoutSeconds: 2
        failureThreshold: 2
      livenessProbe:
        grpc: {port: {{ $admin }}, service: live}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      lifecycle:
        preStop:
          sleep: {seconds: {{ $leaving.preStop }}}
      resources:
        {{- include "refract.resources" . | nindent 8 }}
      securityContext:
        {{- include "refract.containerSecurity" (ternary $gpu.readOnlyRootFilesystem true (default false $gpu.enabled)) | nindent 8 }}
      volumeMounts:
        - {name: config, mountPath: /etc/refract/refract.toml, subPath: refract.toml, readOnly: true}
        {{- if $secured }}
        - {name: tls, mountPath: /etc/refract/tls, readOnly: true}
        {{- if ne $role "ranker" }}
        - {name: config, mountPath: /etc/refract/callers.toml, subPath: callers.toml, readOnly: true}
        {{- end }}
        {{- end }}
        {{- if $callers }}
        - {name: callers, mountPath: /etc/refract/callers, readOnly: true}
        {{- end }}
        {{- if $knowledge }}
        - {name: knowledge, mountPath: /etc/refract/knowledge, readOnly: true}
        {{- end }}
        {{- if ne $files.source "image" }}
        - {name: files, mountPath: /var/lib/refract/files, readOnly: true}
        {{- end }}
        {{- if $gpu.enabled }}
        - {name: shm, mountPath: /dev/shm}
        {{- end }}
  volumes:
    - name: config
      configMap:
        name: {{ include "refract.fullname" $root }}-{{ $role }}
    {{- if $secured }}
    # A whole folder, so that renewed files arrive.
    - name: tls
      secret:
        secretName: {{ include "refract.tlsSecret" . }}
        defaultMode: 288 # 0440
    {{- end }}
    {{- if $callers }}
    - name: callers
      secret:
        secretName: {{ $root.Values.callers.existingSecret }}
        defaultMode: 288 # 0440
        items: [{key: {{ $root.Values.callers.key }}, path: callers.toml}]
    {{- end }}
    {{- if $knowledge }}
    - name: knowledge
      secret:
        secretName: {{ include "refract.knowledgeSecret" $root }}
        defaultMode: 288 # 0440
        items:
          - {key: {{ $root.Values.knowledge.secretKey }}, path: secret}
          {{- if eq $root.Values.knowledge.store "external" }}
          - {key: {{ $root.Values.knowledge.external.urlKey }}, path: url}
          {{- with $root.Values.knowledge.external }}
          {{- if .caKey }}
          - {key: {{ .caKey }}, path: ca.crt}
          {{- end }}
          {{- if .certKey }}
          - {key: {{ .certKey }}, path: tls.crt}
          - {key: {{ .keyKey }}, path: tls.key}
          {{- end }}
          {{- if .sentinelCredentialKey }}
          - {key: {{ .sentinelCredentialKey }}, path: sentinel}
          {{- end }}
          {{- end }}
          {{- end }}
    {{- end }}
    {{- with include "refract.filesVolume" (dict "files" $files) | trim }}
    {{- . | nindent 4 }}
    {{- end }}
    {{- if $gpu.enabled }}
    - name: shm
      emptyDir: {medium: Memory, sizeLimit: {{ $gpu.sharedMemory }}}
    {{- end }}
{{- end }}

{{/* dict root, role, strategy (YAML) */}}
{{- define "refract.deployment" -}}
{{- $root := .root }}{{ $role := .role }}{{ $values := index $root.Values $role -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ include "refract.fullname" $root }}-{{ $role }}
  labels:
    {{- include "refract.labels" (dict "root" $root "component" $role) | nindent 4 }}
spec:
  {{- if eq (dig "autoscaling" "kind" "none" $values) "none" }}
  replicas: {{ $values.replicas }}
  {{- end }}
  revisionHistoryLimit: 5
  # Above the time of the files' arrival and the startup probe's patience, so that a slow start is not called a failed rollout.
  {{- $files := ternary $values.data $values.bundle (eq $role "ranker") }}
  progressDeadlineSeconds: {{ add (include "refract.arrival" (dict "root" $root "files" $files) | int) ($values.startupSeconds | int) (default 0 $values.minReadySeconds | int) 120 }}
  {{- with $values.minReadySeconds }}
  minReadySeconds: {{ . }}
  {{- end }}
  strategy:
    {{- .strategy | nindent 4 }}
  selector:
    matchLabels:
      {{- include "refract.selector" (dict "root" $root "component" $role) | nindent 6 }}
  template:
    {{- include "refract.podTemplate" (dict "root" $root "role" $role) | nindent 4 }}
{{- end }}

{{/* dict root, role. One address for proxies and meshes; one name with every ready pod for clients that balance. */}}
{{- define "refract.services" -}}
{{- $root := .root }}{{ $role := .role }}{{ $values := index $root.Values $role -}}
{{- range list "" "-headless" }}
---
apiVersion: v1
kind: Service
metadata:
  name: {{ include "refract.fullname" $root }}-{{ $role }}{{ . }}
  labels:
    {{- include "refract.labels" (dict "root" $root "component" $role) | nindent 4 }}
    {{- if . }}
    refract/scrape: "true"
    {{- end }}
  {{- with $values.service.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- if . }}
  clusterIP: None
  publishNotReadyAddresses: false
  {{- else }}
  type: ClusterIP
  {{- end }}
  selector:
    {{- include "refract.selector" (dict "root" $root "component" $role) | nindent 4 }}
  ports:
    - name: grpc
      port: {{ include "refract.port" (dict "root" $root "component" $role "port" "data") }}
      targetPort: grpc
      appProtocol: {{ ternary "kubernetes.io/h2c" "https" (eq $root.Values.tls.source "none") }}
    {{- if . }}
    - name: admin
      port: {{ include "refract.port" (dict "root" $root "component" $role "port" "admin") }}
      targetPort: admin
    {{- end }}
{{- end }}
{{- end }}

{{/* dict root, role. 0 is a number that somebody wrote; only null means "not set". */}}
{{- define "refract.pdb" -}}
{{- $root := .root }}{{ $values := index $root.Values .role -}}
{{- $budget := $values.podDisruptionBudget -}}
{{- if $budget.enabled -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ include "refract.fullname" $root }}-{{ .role }}
  labels:
    {{- include "refract.labels" (dict "root" $root "component" .role) | nindent 4 }}
spec:
  {{- if not (kindIs "invalid" $budget.minAvailable) }}
  minAvailable: {{ $budget.minAvailable }}
  {{- end }}
  {{- if not (kindIs "invalid" $budget.maxUnavailable) }}
  maxUnavailable: {{ $budget.maxUnavailable }}
  {{- end }}
  unhealthyPodEvictionPolicy: {{ $budget.unhealthyPodEvictionPolicy }}
  selector:
    matchLabels:
      {{- include "refract.selector" (dict "root" $root "component" .role) | nindent 6 }}
{{- end -}}
{{- end }}
