{{/* A duration of the settings (500ms, 10s, 2m, 1h, 1d) in seconds, rounded up. */}}
{{- define "highwater.seconds" -}}
{{- $number := regexFind "^[0-9]+" . | int64 -}}
{{- $unit := regexReplaceAll "^[0-9]+ *" . "" -}}
{{- if eq $unit "ms" -}}{{ div (add $number 999) 1000 }}
{{- else -}}{{ mul $number (get (dict "s" 1 "m" 60 "h" 3600 "d" 86400) $unit) }}
{{- end -}}
{{- end -}}

{{/* A size of the settings (1048576B, 512KiB, 96MiB, 2GiB) in MiB, rounded up. */}}
{{- define "highwater.mebibytes" -}}
{{- $number := regexFind "^[0-9]+" . | int64 -}}
{{- $unit := regexReplaceAll "^[0-9]+ *" . "" -}}
{{- if eq $unit "GiB" -}}{{ mul $number 1024 }}
{{- else if eq $unit "MiB" -}}{{ $number }}
{{- else if eq $unit "KiB" -}}{{ div (add $number 1023) 1024 }}
{{- else -}}{{ div (add $number 1048575) 1048576 }}
{{- end -}}
{{- end -}}

{{/* How long a pod may go on after SIGTERM. The default of drain_deadline is docs/configuration.md's; a test compares. */}}
{{- define "highwater.graceSeconds" -}}
{{- add (include "highwater.seconds" (.Values.worker.settings.drain_deadline | default "10s" | toString)) .Values.worker.graceMargin -}}
{{- end -}}

{{/* In MiB, from the budget, whose default is docs/configuration.md's; a test compares. */}}
{{- define "highwater.workerMemory" -}}
{{- add (include "highwater.mebibytes" (.Values.worker.settings.buffer_budget | default "96MiB" | toString)) .Values.worker.memoryBesideBudget -}}
{{- end -}}

{{/* Where a database is, as variables: (list database "worker"); that of "evolve" is a worker's second one. */}}
{{- define "highwater.databaseEnv" -}}
{{- $database := index . 0 -}}
{{- $what := index . 1 -}}
{{- $setting := ternary "EVOLVE" "POSTGRES" (eq $what "evolve") -}}
{{- if and $database.url ($database.urlSecret).name }}{{ fail (printf "%s.database has url and urlSecret: one of them" $what) }}{{ end -}}
{{- if not (or $database.url ($database.urlSecret).name) }}{{ fail (printf "%s.database is missing: url (without a password), or urlSecret" $what) }}{{ end -}}
- name: HIGHWATER_{{ $setting }}_URL
{{- if $database.url }}
  value: {{ $database.url | quote }}
{{- else }}
  valueFrom:
    secretKeyRef: {{ toJson $database.urlSecret }}
{{- end }}
{{- if ($database.passwordSecret).name }}
- name: HIGHWATER_{{ $setting }}_PASSWORD_FILE
  value: {{ include "highwater.databaseFolder" $what }}/password
{{- end }}
{{- end -}}

{{/* The folder of a database's password; its certificates are beside it, in -tls. */}}
{{- define "highwater.databaseFolder" -}}
/etc/highwater/{{ ternary "evolve" "postgres" (eq . "evolve") }}
{{- end -}}

{{/* Its files: (list database "worker"), whose volumes are worker-password and worker-tls. */}}
{{- define "highwater.databaseMounts" -}}
{{- $database := index . 0 -}}
{{- if ($database.passwordSecret).name }}
- name: {{ index . 1 }}-password
  mountPath: {{ include "highwater.databaseFolder" (index . 1) }}
  readOnly: true
{{- end }}
{{- if $database.tlsSecret }}
- name: {{ index . 1 }}-tls
  mountPath: {{ include "highwater.databaseFolder" (index . 1) }}-tls
  readOnly: true
{{- end }}
{{- end -}}

{{/* Whole folders, never subPath: what is mounted by that is never renewed. Group-readable, for the pod's fsGroup. */}}
{{- define "highwater.databaseVolumes" -}}
{{- $database := index . 0 -}}
{{- if ($database.passwordSecret).name }}
- name: {{ index . 1 }}-password
  secret:
    secretName: {{ ($database.passwordSecret).name }}
    defaultMode: 0440
    items: [{ key: {{ ($database.passwordSecret).key | quote }}, path: password }]
{{- end }}
{{- if $database.tlsSecret }}
- name: {{ index . 1 }}-tls
  secret:
    secretName: {{ $database.tlsSecret }}
    defaultMode: 0440
{{- end }}
{{- end -}}

{{/* Whether the owner's address was given, with which the tables of a pipeline grow; one that is half there is refused. */}}
{{- define "highwater.evolves" -}}
{{- $database := .Values.evolve.database -}}
{{- if or $database.url ($database.urlSecret).name ($database.passwordSecret).name $database.tlsSecret -}}
{{- if not .Values.worker.pipeline }}{{ fail "evolve.database is for worker.pipeline alone: no program uses it" }}{{ end -}}
yes
{{- end -}}
{{- end -}}

{{- define "highwater.kafkaEnv" -}}
{{- with .Values.kafka.brokers }}
- name: HIGHWATER_BROKERS
  value: {{ join "," . | quote }}
{{- end }}
{{- range $property, $value := .Values.kafka.properties }}
- name: HIGHWATER_KAFKA_{{ $property | replace "." "_" | upper }}
  value: {{ $value | toString | quote }}
{{- end }}
{{- range $property, $reference := .Values.kafka.secretProperties }}
- name: HIGHWATER_KAFKA_{{ $property | replace "." "_" | upper }}
  valueFrom:
    secretKeyRef: {{ toJson $reference }}
{{- end }}
{{- end -}}

{{- define "highwater.kafkaMounts" -}}
{{- range .Values.kafka.secretFiles }}
- name: kafka-{{ .name }}
  mountPath: {{ .path }}
  readOnly: true
{{- end }}
{{- end -}}

{{- define "highwater.kafkaVolumes" -}}
{{- range .Values.kafka.secretFiles }}
- name: kafka-{{ .name }}
  secret:
    secretName: {{ .name }}
    defaultMode: 0440
{{- end }}
{{- end -}}

{{/* The schema of Highwater's tables, for every command. */}}
{{- define "highwater.schemaEnv" -}}
{{- with .Values.worker.settings.schema }}
- name: HIGHWATER_SCHEMA
  value: {{ . | quote }}
{{- end }}
{{- end -}}
