{{/* Data sets and model bundles: from the image, a claim, an image volume, or a download with a checksum. */}}

{{/* dict files (the value's block), shipped (its name below the image's demo directory) */}}
{{- define "refract.filesPath" -}}
{{- if eq .files.source "image" -}}
/usr/share/refract/demo/{{ .shipped }}
{{- else -}}
/var/lib/refract/files{{ with .files.subPath }}/{{ trimAll "/" . }}{{ end }}
{{- end -}}
{{- end }}

{{/* The value's block. The claim and the image are read-only; a download is written once, by the init container. */}}
{{- define "refract.filesVolume" -}}
{{- if eq .source "claim" }}
- name: files
  persistentVolumeClaim:
    claimName: {{ .claim.name }}
    readOnly: true
{{- else if eq .source "imageVolume" }}
- name: files
  image:
    reference: {{ .imageVolume.reference }}
    pullPolicy: {{ .imageVolume.pullPolicy }}
{{- else if eq .source "download" }}
- name: files
  emptyDir:
    sizeLimit: {{ .download.size }}
{{- end }}
{{- end }}

{{/* dict root, files */}}
{{- define "refract.filesInit" -}}
{{- if eq .files.source "download" }}
- name: download
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
    - {name: TO, value: /var/lib/refract/files}
    - {name: TIMEOUT_SECONDS, value: {{ .root.Values.download.timeoutSeconds | quote }}}
  resources:
    {{- toYaml .root.Values.download.resources | nindent 4 }}
  securityContext:
    {{- include "refract.containerSecurity" true | nindent 4 }}
  volumeMounts:
    - {name: files, mountPath: /var/lib/refract/files}
{{- end }}
{{- end }}
