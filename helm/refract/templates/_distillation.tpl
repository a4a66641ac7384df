{{/* The Job that lets a teacher label pairs: each index is a shard with a file of its own, and goes on where that file ends. */}}

{{/* Takes the root. What may not change over the life of a Job. */}}
{{- define "refract.distillationJob" -}}
{{- $root := . }}{{ $v := .Values.distillation -}}
{{- $bundle := and (eq $v.teacher "bundle") (ne $v.bundle.source "image") -}}
{{- $data := ne .Values.ranker.data.source "image" -}}
{{- $credential := and (eq $v.teacher "endpoint") $v.endpoint.existingSecret -}}
completionMode: Indexed
completions: {{ $v.shards }}
backoffLimitPerIndex: {{ $v.retriesPerShard }}
# A shard's labels have one writer: the next pod comes when the last one is gone.
podReplacementPolicy: Failed
podFailurePolicy:
  rules:
    # Evicted or preempted: no fault of its own.
    - action: Ignore
      onPodConditions: [{type: DisruptionTarget, status: "True"}]
    # A command line that is refused once is refused always.
    - action: FailIndex
      onExitCodes: {containerName: distill, operator: In, values: [2, 64]}
template:
  metadata:
    {{- with $v.podAnnotations }}
    annotations:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    labels:
      {{- include "refract.podLabels" (dict "root" $root "component" "distillation") | nindent 6 }}
      {{- with $v.podLabels }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
  spec:
    restartPolicy: Never
    serviceAccountName: {{ include "refract.serviceAccountName" $root }}
    automountServiceAccountToken: false
    enableServiceLinks: false
    # Long enough to write down what is answered; the rest is asked again.
    terminationGracePeriodSeconds: 30
    securityContext:
      {{- include "refract.podSecurity" $root | nindent 6 }}
    {{- with include "refract.placement" (dict "root" $root "role" "distillation") | trim }}
    {{- . | nindent 4 }}
    {{- end }}
    {{- if or $data $bundle }}
    {{- $fetch := include "refract.filesInit" (dict "root" $root "files" .Values.ranker.data "volume" "data") | trim }}
    {{- $weights := ternary (include "refract.filesInit" (dict "root" $root "files" $v.bundle "volume" "bundle") | trim) "" $bundle }}
    {{- if or $fetch $weights }}
    initContainers:
      {{- with $fetch }}
      {{- . | nindent 6 }}
      {{- end }}
      {{- with $weights }}
      {{- . | nindent 6 }}
      {{- end }}
    {{- end }}
    {{- end }}
    containers:
      - name: distill
        image: {{ include "refract.image" (dict "root" $root "role" "distillation") }}
        imagePullPolicy: {{ .Values.image.pullPolicy }}
        args:
          - distill
          - --data
          - {{ include "refract.filesPath" (dict "files" .Values.ranker.data "shipped" "data" "volume" "data") }}
          - --shard
          - job/{{ $v.shards }}
          - --out
          - /var/lib/refract/labels/labels-$(JOB_COMPLETION_INDEX).jsonl
          {{- if eq $v.teacher "bundle" }}
          - --oracle
          - {{ include "refract.filesPath" (dict "files" $v.bundle "shipped" "oracle" "volume" "bundle") }}
          {{- else if eq $v.teacher "oracle" }}
          - --target
          - {{ include "refract.target" (dict "root" $root "component" "oracle") }}
          {{- else }}
          - --endpoint
          - {{ $v.endpoint.url | quote }}
          - --model
          - {{ $v.endpoint.model | quote }}
          {{- if $credential }}
          - --credential-file
          - /etc/refract/endpoint/credential
          {{- end }}
          {{- end }}
          {{- with $v.arguments }}
          {{- toYaml . | nindent 10 }}
          {{- end }}
        {{- with $v.extraEnv }}
        env:
          {{- toYaml . | nindent 10 }}
        {{- end }}
        resources:
          {{- include "refract.resources" (dict "root" $root "role" "distillation") | nindent 10 }}
        securityContext:
          {{- include "refract.containerSecurity" true | nindent 10 }}
        volumeMounts:
          - {name: labels, mountPath: /var/lib/refract/labels{{ with $v.output.subPath }}, subPath: {{ . | quote }}{{ end }}}
          {{- if $data }}
          - {name: data, mountPath: /var/lib/refract/data, readOnly: true}
          {{- end }}
          {{- if $bundle }}
          - {name: bundle, mountPath: /var/lib/refract/bundle, readOnly: true}
          {{- end }}
          {{- if $credential }}
          - {name: credential, mountPath: /etc/refract/endpoint, readOnly: true}
          {{- end }}
    volumes:
      - name: labels
        persistentVolumeClaim:
          claimName: {{ $v.output.claim.name }}
      {{- if $data }}
      {{- include "refract.filesVolume" (dict "files" .Values.ranker.data "volume" "data") | trim | nindent 6 }}
      {{- end }}
      {{- if $bundle }}
      {{- include "refract.filesVolume" (dict "files" $v.bundle "volume" "bundle") | trim | nindent 6 }}
      {{- end }}
      {{- if $credential }}
      - name: credential
        secret:
          secretName: {{ $v.endpoint.existingSecret }}
          defaultMode: 288 # 0440
          items: [{key: {{ $v.endpoint.key }}, path: credential}]
      {{- end }}
{{- end }}
