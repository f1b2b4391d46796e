{{- define "highwater.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* Short enough for what is appended, and for the hash of a StatefulSet's revision. */}}
{{- define "highwater.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "highwater.name" . -}}
{{- ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What selects the pods of a component, and never changes: (list . "worker") */}}
{{- define "highwater.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ include "highwater.name" $root }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- define "highwater.labels" -}}
{{- $root := index . 0 -}}
{{ include "highwater.selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version }}
{{- end -}}

{{/* (list image default-tag what) */}}
{{- define "highwater.image" -}}
{{- $image := index . 0 -}}
{{- $repository := required (printf "%s.repository is missing: which image?" (index . 2)) $image.repository -}}
{{- $tag := $image.tag | default (index . 1) -}}
{{- if and (not $tag) (not $image.digest) }}{{ fail (printf "%s.tag is missing, or a digest: `latest` is nobody's release" (index . 2)) }}{{ end -}}
{{ $repository }}{{ with $tag }}:{{ . }}{{ end }}{{ with $image.digest }}@{{ . }}{{ end }}
{{- end -}}
