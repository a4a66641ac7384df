{{/* Data sets and model bundles: from the image, a claim, an image volume, or a download with a checksum. */}}

{{/* dict files (the value's block), shipped (its name below the image's demo directory), volume (default "files") */}}
{{- define "refract.filesPath" -}}
{{- if eq .files.source "image" -}}
/usr/share/refract/demo/{{ .shipped }}
{{- else -}}
/var/lib/refract/{{ default "files" .volume }}{{ with .files.subPath }}/{{ trimAll "/" . }}{{ end }}
{{- end -}}
{{- end }}

{{/* dict files, volume (default "files"). The claim and the image are read-only; a download is written once, by the init
container. Its archive lies beside what is unpacked, not among it: both are there until it has been read, and a volume above its
limit costs the pod. */}}
{{- define "refract.filesVolume" -}}
{{- $volume := default "files" .volume }}
{{- with .files }}
{{- if eq .source "claim" }}
- name: {{ $volume }}
  persistentVolumeClaim:
    claimName: {{ .claim.name }}
    readOnly: true
{{- else if eq .source "imageVolume" }}
- name: {{ $volume }}
  image:
    reference: {{ .imageVolume.reference }}
    pullPolicy: {{ .imageVolume.pullPolicy }}
{{- else if eq .source "download" }}
- name: {{ $volume }}
  emptyDir:
    sizeLimit: {{ .download.size }}
- name: {{ $volume }}-archive
  emptyDir:
    sizeLimit: {{ .download.size }}
{{- end }}
{{- end }}
{{- end }}

{{/* dict root, files. How long the files may take to arrive on a node, in seconds: what comes before the container's own start. */}}
{{- define "refract.arrival" -}}
{{- if eq .files.source "download" -}}
{{ .root.Values.download.timeoutSeconds }}
{{- else if eq .files.source "imageVolume" -}}
{{ .root.Values.imageVolumes.pullSeconds }}
{{- else -}}
0
{{- end -}}
{{- end }}

{{/* dict root, files, volume (default "files") */}}
{{- define "refract.filesInit" -}}
{{- $volume := default "files" .volume }}
{{- if eq .files.source "download" }}
- name: download{{ if ne $volume "files" }}-{{ $volume }}{{ end }}
  image: {{ include "refract.imageOf" (dict "image" .root.Values.download.image "tag" "latest") }}
  imagePullPolicy: {{ .root.Values.download.image.pullPolicy }}
  command:
    - sh
    - -c
    - |
      {{- .root.Files.Get "files/download.sh" | nindent 6 }}
  env:
    - {name: URL, value: {{ .files.download.url | quote }}}
    - {name: SHA256, value: {{ .files.download.sha256 | quote }}}
    - {name: TO, value: /var/lib/refract/{{ $volume }}}
    - {name: ARCHIVE, value: /var/lib/refract/{{ $volume }}-archive}
    - {name: TIMEOUT_SECONDS, value: {{ .root.Values.download.timeoutSeconds | quote }}}
  resources:
    {{- toYaml .root.Values.download.resources | nindent 4 }}
  securityContext:
    {{- include "refract.containerSecurity" true | nindent 4 }}
  volumeMounts:
    - {name: {{ $volume }}, mountPath: /var/lib/refract/{{ $volume }}}
    - {name: {{ $volume }}-archive, mountPath: /var/lib/refract/{{ $volume }}-archive}
{{- end }}
{{- end }}
