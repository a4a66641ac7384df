{{/* dict root, role, queries: list of dict name, query, threshold */}}
{{- define "refract.scaledObject" -}}
{{- $root := .root }}{{ $scaling := (index $root.Values .role).autoscaling -}}
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata:
  name: {{ include "refract.fullname" $root }}-{{ .role }}
  labels:
    {{- include "refract.labels" (dict "root" $root "component" .role) | nindent 4 }}
spec:
  scaleTargetRef:
    name: {{ include "refract.fullname" $root }}-{{ .role }}
  minReplicaCount: {{ $scaling.replicasMin }}
  maxReplicaCount: {{ $scaling.replicasMax }}
  pollingInterval: 15
  # Prometheus is away: stay where a quiet day would be, rather than where the last number was.
  fallback:
    failureThreshold: 4
    replicas: {{ $scaling.replicasMin }}
  advanced:
    horizontalPodAutoscalerConfig:
      behavior:
        scaleUp:
          stabilizationWindowSeconds: 0
          policies: [{type: Percent, value: 100, periodSeconds: 30}]
        scaleDown:
          stabilizationWindowSeconds: {{ $scaling.cooldownSeconds }}
          policies: [{type: Pods, value: 1, periodSeconds: 60}]
  triggers:
    {{- range .queries }}
    - type: prometheus
      name: {{ .name }}
      metricType: AverageValue
      metadata:
        serverAddress: {{ $root.Values.monitoring.prometheusUrl }}
        query: {{ .query | quote }}
        threshold: {{ .threshold | quote }}
        # No answer is no information, not a zero.
        ignoreNullValues: "false"
    {{- end }}
{{- end }}
