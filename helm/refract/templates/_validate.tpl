{{/* What no schema can say: values that are sound alone and do not fit together. All complaints at once. */}}
{{- define "refract.validate" -}}
{{- $v := .Values }}{{ $wrong := list -}}
{{- $roles := (include "refract.roles" . | fromJson).roles -}}

{{- range $role := without $roles "ranker" -}}
{{- if and (index $v $role).gpu.enabled (or $v.image.tag $v.image.digest) (not (or $v.image.cuda.tag $v.image.cuda.digest)) -}}
{{- $wrong = append $wrong (printf "image.cuda: %s.gpu.enabled needs the cuda image of the version that image.tag or image.digest names for the others, and one name cannot be both images: set image.cuda.tag or image.cuda.digest" $role) -}}
{{- end -}}
{{- end -}}

{{- range $role := without $roles "ranker" -}}
{{- $gpu := (index $v $role).gpu -}}
{{- if and $gpu.enabled (contains "/mig-" $gpu.resource) (gt (int $gpu.count) 1) -}}
{{- $wrong = append $wrong (printf "%s.gpu.count: MIG slices cannot hold a model together; take one slice, or whole GPUs" $role) -}}
{{- end -}}
{{- end -}}
{{- if and $v.prism.enabled $v.prism.gpu.enabled (gt (int $v.prism.gpu.count) 1) -}}
{{- $wrong = append $wrong "prism.gpu.count: only the Oracle's model is divided among GPUs; take more pods (prism.replicas)" -}}
{{- end -}}

{{- $mode := dig "river" "mode" "conditioned" $v.ranker.config -}}
{{- if and (eq $mode "oracle") (not $v.oracle.enabled) (not (dig "oracle" "target" "" $v.ranker.config)) -}}
{{- $wrong = append $wrong "ranker.config.river.mode is oracle, but there is none: set oracle.enabled, or ranker.config.oracle.target to one elsewhere" -}}
{{- end -}}
{{- range list "oracle" "prism" -}}
{{- if and (index $v .).enabled (dig . "target" "" $v.ranker.config) -}}
{{- $wrong = append $wrong (printf "ranker.config.%s.target names a service elsewhere while %s.enabled makes one here: choose one" . .) -}}
{{- end -}}
{{- end -}}

{{- range $name, $target := include "refract.targetsElsewhere" . | fromYaml -}}
{{- if and $v.networkPolicy.enabled (not (index $v.networkPolicy.elsewhere $name)) (not $v.networkPolicy.extraEgress.ranker) -}}
{{- $wrong = append $wrong (printf "networkPolicy.elsewhere.%s: the network policy must know where %s is (ranker.config.%s.target); or open the way in networkPolicy.extraEgress.ranker, or set networkPolicy.enabled to false" $name $target $name) -}}
{{- end -}}
{{- end -}}

{{- if eq $v.knowledge.store "external" -}}
{{- if not $v.knowledge.existingSecret -}}
{{- $wrong = append $wrong (printf "knowledge.existingSecret: an external store needs a Secret with the keys %s (at least 16 bytes) and %s" $v.knowledge.secretKey $v.knowledge.external.urlKey) -}}
{{- end -}}
{{- if and $v.networkPolicy.enabled (not $v.knowledge.external.peers) -}}
{{- $wrong = append $wrong "knowledge.external.peers: the network policy must know where the store is; or set networkPolicy.enabled to false" -}}
{{- end -}}
{{- if not (or $v.oracle.enabled (dig "oracle" "target" "" $v.ranker.config)) -}}
{{- $wrong = append $wrong "knowledge.store is external, but without an Oracle there is nothing to remember: set it to memory" -}}
{{- end -}}
{{- end -}}

{{- with $v.knowledge.external -}}
{{- if and (eq .mode "sentinel") (not .sentinelMaster) -}}
{{- $wrong = append $wrong "knowledge.external.sentinelMaster: mode sentinel needs the name under which the sentinels watch the master" -}}
{{- end -}}
{{- if and (ne .mode "sentinel") (or .sentinelMaster .sentinelCredentialKey) -}}
{{- $wrong = append $wrong (printf "knowledge.external.sentinelMaster and sentinelCredentialKey are for mode sentinel, not %s" .mode) -}}
{{- end -}}
{{- if and (eq .mode "standalone") .seeds -}}
{{- $wrong = append $wrong "knowledge.external.seeds are for mode cluster or sentinel" -}}
{{- end -}}
{{- end -}}

{{- if and $v.knowledge.external.certKey (not $v.knowledge.external.keyKey) -}}
{{- $wrong = append $wrong "knowledge.external.keyKey: a certificate (certKey) is of no use without its private key" -}}
{{- end -}}

{{- if and (eq $v.tls.source "certManager") (not $v.tls.certManager.issuer.name) -}}
{{- $wrong = append $wrong "tls.certManager.issuer.name: cert-manager must know which Issuer signs" -}}
{{- end -}}
{{- if eq $v.tls.source "existingSecrets" -}}
{{- range $roles -}}
{{- if not (index $v.tls.existingSecrets .) -}}
{{- $wrong = append $wrong (printf "tls.existingSecrets.%s: TLS needs a Secret with tls.crt, tls.key and ca.crt for each role" .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and $v.tls.clientCertificates (eq $v.tls.source "none") -}}
{{- $wrong = append $wrong "tls.clientCertificates: callers can only show certificates over TLS; set tls.source" -}}
{{- end -}}
{{- if and $v.callers.existingSecret (eq $v.tls.source "none") -}}
{{- $wrong = append $wrong "callers.existingSecret: tokens would travel in plaintext; set tls.source" -}}
{{- end -}}
{{- if and $v.callers.existingSecret (not $v.tests.tokenSecret) (not $v.tls.clientCertificates) -}}
{{- $wrong = append $wrong "tests.tokenSecret: with callers the test of the release needs a token, too" -}}
{{- end -}}

{{- with $v.distillation -}}
{{- if .enabled -}}
{{- if not .output.claim.name -}}
{{- $wrong = append $wrong "distillation.output.claim.name: labels need a PersistentVolumeClaim that outlives the pods" -}}
{{- end -}}
{{- if and (eq .teacher "oracle") (not $v.oracle.enabled) -}}
{{- $wrong = append $wrong "distillation.teacher is oracle, but this release has none: set oracle.enabled, or take bundle or endpoint" -}}
{{- end -}}
{{- if and (eq .teacher "oracle") (ne $v.tls.source "none") -}}
{{- $wrong = append $wrong "distillation.teacher is oracle, whose port asks for the ranker's certificate (tls.source): take bundle, with the same model" -}}
{{- end -}}
{{- if and (eq .teacher "endpoint") (not (and .endpoint.url .endpoint.model)) -}}
{{- $wrong = append $wrong "distillation.endpoint: teacher endpoint needs url and model" -}}
{{- end -}}
{{- if and (eq .teacher "endpoint") $v.networkPolicy.enabled (not .endpoint.peers) -}}
{{- $wrong = append $wrong "distillation.endpoint.peers: the network policy must know where the endpoint is; or set networkPolicy.enabled to false" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- $sources := dict -}}
{{- range $roles -}}
{{- $_ := set $sources (printf "%s.%s" . (ternary "data" "bundle" (eq . "ranker"))) (ternary (index $v .).data (index $v .).bundle (eq . "ranker")) -}}
{{- end -}}
{{- if and $v.distillation.enabled (eq $v.distillation.teacher "bundle") -}}
{{- $_ := set $sources "distillation.bundle" $v.distillation.bundle -}}
{{- end -}}
{{- range $where, $files := $sources -}}
{{- if and (eq $files.source "claim") (not $files.claim.name) -}}
{{- $wrong = append $wrong (printf "%s.claim.name: source claim needs a PersistentVolumeClaim" $where) -}}
{{- end -}}
{{- if eq $files.source "imageVolume" -}}
{{- if not $files.imageVolume.reference -}}
{{- $wrong = append $wrong (printf "%s.imageVolume.reference: source imageVolume needs an image" $where) -}}
{{- end -}}
{{- if semverCompare (ternary "<1.33.0-0" "<1.35.0-0" $v.imageVolumes.gateIsOn) $.Capabilities.KubeVersion.Version -}}
{{- $wrong = append $wrong (printf "%s.source: image volumes need Kubernetes 1.35, this is %s; where 1.33 or 1.34 has the feature gate ImageVolume on, set imageVolumes.gateIsOn" $where $.Capabilities.KubeVersion.Version) -}}
{{- end -}}
{{- end -}}
{{- if and (eq $files.source "download") (not (and $files.download.url $files.download.sha256)) -}}
{{- $wrong = append $wrong (printf "%s.download: source download needs url and sha256" $where) -}}
{{- end -}}

{{- end -}}

{{- range $role := $roles -}}
{{- $values := index $v $role -}}
{{- $budget := $values.podDisruptionBudget -}}
{{- if $budget.enabled -}}
{{- if eq (kindIs "invalid" $budget.minAvailable) (kindIs "invalid" $budget.maxUnavailable) -}}
{{- $wrong = append $wrong (printf "%s.podDisruptionBudget: set exactly one of minAvailable and maxUnavailable, the other to null" $role) -}}
{{- end -}}
{{- $fewest := int (ternary $values.replicas (dig "autoscaling" "replicasMin" 1 $values) (eq (dig "autoscaling" "kind" "none" $values) "none")) -}}
{{- /* A number comes as int64 by --set and as float64 from a file; of a share Kubernetes rounds up. */ -}}
{{- $stay := 0 -}}
{{- if kindIs "string" $budget.minAvailable -}}
{{- $stay = div (add (mul (trimSuffix "%" $budget.minAvailable | int) $fewest) 99) 100 | int -}}
{{- else if not (kindIs "invalid" $budget.minAvailable) -}}
{{- $stay = int $budget.minAvailable -}}
{{- end -}}
{{- if ge $stay $fewest -}}
{{- $wrong = append $wrong (printf "%s.podDisruptionBudget.minAvailable: %v of %d pods may never be moved, and no node could be drained" $role $budget.minAvailable $fewest) -}}
{{- end -}}
{{- end -}}

{{- $scaling := default dict $values.autoscaling -}}
{{- if ne (default "none" $scaling.kind) "none" -}}
{{- if gt (int $scaling.replicasMin) (int $scaling.replicasMax) -}}
{{- $wrong = append $wrong (printf "%s.autoscaling: replicasMin %v is above replicasMax %v" $role $scaling.replicasMin $scaling.replicasMax) -}}
{{- end -}}
{{- if and (eq $scaling.kind "keda") (not $v.monitoring.prometheusUrl) -}}
{{- $wrong = append $wrong (printf "monitoring.prometheusUrl: %s.autoscaling.kind is keda, which asks Prometheus" $role) -}}
{{- end -}}
{{- end -}}

{{- $capName := ternary "config.river.request_cap" "config.call_cap" (eq $role "ranker") -}}
{{- $cap := ternary (dig "river" "request_cap" "20s" $values.config) (dig "call_cap" "30s" $values.config) (eq $role "ranker") -}}
{{- if gt (include "refract.seconds" $cap | float64) ($values.drainSeconds | float64) -}}
{{- $wrong = append $wrong (printf "%s.drainSeconds: %v is shorter than %s.%s (%s): calls would be cut off when a pod leaves" $role $values.drainSeconds $role $capName $cap) -}}
{{- end -}}
{{- end -}}

{{- if and $v.monitoring.serviceMonitor.enabled $v.monitoring.podMonitor.enabled -}}
{{- $wrong = append $wrong "monitoring: serviceMonitor and podMonitor would count everything twice; enable one" -}}
{{- end -}}
{{- $reads := list -}}
{{- if $v.monitoring.rules.enabled }}{{ $reads = append $reads "rules" }}{{ end -}}
{{- range without $roles "ranker" }}{{ if eq (index $v .).autoscaling.kind "keda" }}{{ $reads = append $reads (printf "%s.autoscaling" .) }}{{ end }}{{ end -}}
{{- if and $reads (not (or $v.monitoring.serviceMonitor.enabled $v.monitoring.podMonitor.enabled $v.monitoring.ownScraper)) -}}
{{- $wrong = append $wrong (printf "monitoring: %s would find nothing, and alerts would say that all is down: the labels component and release come from the chart's monitors; enable podMonitor or serviceMonitor, or set ownScraper where a scraper of yours sets them" (join " and " $reads)) -}}
{{- end -}}
{{- $alerts := keys (include "refract.alerts" . | fromYaml).alerts | sortAlpha -}}
{{- range concat $v.monitoring.rules.disabled (keys $v.monitoring.rules.overrides | sortAlpha) -}}
{{- if not (has . $alerts) -}}
{{- $wrong = append $wrong (printf "monitoring.rules: there is no alert %s; there are %s" . (join ", " $alerts)) -}}
{{- end -}}
{{- end -}}

{{- if $wrong -}}
{{- fail (printf "\n\nThese values of Refract's chart do not fit together:\n  - %s\n" (join "\n  - " $wrong)) -}}
{{- end -}}
{{- end }}
