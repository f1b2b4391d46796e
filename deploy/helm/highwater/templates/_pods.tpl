{{/* The same for every pod: no rights, no files to write, no token. */}}
{{- define "highwater.podSecurity" -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: { type: RuntimeDefault }
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{ toJson . }}
{{- end }}
{{- end -}}

{{- define "highwater.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: { drop: [ALL] }
{{- end -}}

{{- define "highwater.migrateContainer" -}}
name: migrate
image: {{ include "highwater.image" (list .Values.image .Chart.AppVersion "image") }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
args: [migrate]
env:
  {{- printf "%s%s" (include "highwater.databaseEnv" (list .Values.migrate.database "migrate")) (include "highwater.schemaEnv" .) | nindent 2 }}
{{ include "highwater.containerSecurity" . }}
resources:
  requests: { cpu: 50m, memory: 64Mi }
  limits: { memory: 128Mi }
{{- with trim (include "highwater.databaseMounts" (list .Values.migrate.database "owner")) }}
volumeMounts:
  {{- . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* The workers' pod, of both presets. */}}
{{- define "highwater.workerPod" -}}
{{- $worker := .Values.worker -}}
{{- $database := include "highwater.databaseEnv" (list $worker.database "worker") -}}
{{- $mounts := include "highwater.databaseMounts" (list $worker.database "worker") -}}
{{- $volumes := include "highwater.databaseVolumes" (list $worker.database "worker") -}}
{{- if include "highwater.evolves" . -}}
{{- $database = printf "%s\n%s" $database (include "highwater.databaseEnv" (list .Values.evolve.database "evolve")) -}}
{{- $mounts = printf "%s%s" $mounts (include "highwater.databaseMounts" (list .Values.evolve.database "evolve")) -}}
{{- $volumes = printf "%s%s" $volumes (include "highwater.databaseVolumes" (list .Values.evolve.database "evolve")) -}}
{{- end -}}
{{- $args := $worker.args -}}
{{- if $worker.pipeline -}}
{{- $args = concat (list "run" (printf "/etc/highwater/pipeline/%s.toml" (include "highwater.fullname" .))) $args -}}
{{- $mounts = printf "%s%s" $mounts (include "highwater.pipelineMount" .) -}}
{{- $volumes = printf "%s%s" $volumes (include "highwater.pipelineVolume" .) -}}
{{- end -}}
{{- range $name := list "brokers" "postgres_url" "postgres_password_file" "evolve_url" "evolve_password_file" "instance_id" "admin_address" "exporter_compat" -}}
{{- if hasKey $worker.settings $name }}{{ fail (printf "worker.settings.%s: the chart sets it itself, from kafka, worker.database, evolve.database, preset, worker.adminPort or exporter" $name) }}{{ end -}}
{{- end -}}
metadata:
  # Nothing that changes with the chart's release: that alone restarts nobody.
  labels:
    {{- include "highwater.selector" (list . "worker") | nindent 4 }}
    {{- with $worker.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- if or $worker.podAnnotations $worker.pipeline }}
  annotations:
    {{- with $worker.pipeline }}
    # A changed file is read by new pods alone.
    highwater/pipeline: {{ sha256sum . | trunc 16 | quote }}
    {{- end }}
    {{- with $worker.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- end }}
spec:
  {{- include "highwater.podSecurity" . | nindent 2 }}
  {{- with $worker.serviceAccountName }}
  serviceAccountName: {{ . }}
  {{- end }}
  {{- with $worker.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  # worker.settings.drain_deadline and worker.graceMargin
  terminationGracePeriodSeconds: {{ include "highwater.graceSeconds" . }}
  {{- if eq .Values.migrate.mode "initContainer" }}
  initContainers:
    -
      {{- include "highwater.migrateContainer" . | nindent 6 }}
  {{- end }}
  containers:
    - name: worker
      {{- if and $worker.pipeline (not $worker.image.repository) }}
      image: {{ include "highwater.image" (list .Values.image .Chart.AppVersion "image") }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      {{- else }}
      image: {{ include "highwater.image" (list $worker.image "" "worker.image") }}
      imagePullPolicy: {{ $worker.image.pullPolicy }}
      {{- end }}
      {{- with $worker.command }}
      command: {{ toJson . }}
      {{- end }}
      {{- with $args }}
      args: {{ toJson . }}
      {{- end }}
      env:
        {{- printf "%s%s" $database (include "highwater.kafkaEnv" .) | nindent 8 }}
        {{- if eq .Values.preset "static" }}
        # A named member: whoever comes back under the pod's name gets its partitions back.
        - name: HIGHWATER_INSTANCE_ID
          valueFrom: { fieldRef: { fieldPath: metadata.name } }
        {{- end }}
        - name: HIGHWATER_ADMIN_ADDRESS
          value: {{ printf "%s:%d" $worker.adminAddress (int $worker.adminPort) | quote }}
        {{- range $name, $value := $worker.settings }}
        - name: HIGHWATER_{{ upper $name }}
          value: {{ kindIs "slice" $value | ternary (join "," ($value | default list)) ($value | toString) | quote }}
        {{- end }}
        {{- with $worker.env }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- with $worker.envFrom }}
      envFrom: {{ toJson . }}
      {{- end }}
      ports:
        - { name: admin, containerPort: {{ $worker.adminPort }} }
      # It answers before its first connection, so nothing need be waited for; and it asks neither Kafka nor Postgres, so an
      # outage of theirs restarts nobody.
      livenessProbe:
        httpGet: { path: /livez, port: admin }
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 3
      # Neither lag nor a halted partition makes a worker unready: no rollout waits for them.
      readinessProbe:
        httpGet: { path: /readyz, port: admin }
        periodSeconds: 5
        timeoutSeconds: 3
        failureThreshold: 2
      {{- include "highwater.containerSecurity" . | nindent 6 }}
      resources:
        requests: { cpu: {{ $worker.cpuRequest | quote }}, memory: {{ include "highwater.workerMemory" . }}Mi }
        limits: { {{ with $worker.cpuLimit }}cpu: {{ . | quote }}, {{ end }}memory: {{ include "highwater.workerMemory" . }}Mi }
      {{- $mounts = printf "%s%s" $mounts (include "highwater.kafkaMounts" .) }}
      {{- if or (trim $mounts) $worker.volumeMounts }}
      volumeMounts:
        {{- with trim $mounts }}
        {{- . | nindent 8 }}
        {{- end }}
        {{- with $worker.volumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- end }}
  {{- $volumes = printf "%s%s" $volumes (include "highwater.kafkaVolumes" .) }}
  {{- if eq .Values.migrate.mode "initContainer" }}
  {{- $volumes = printf "%s%s" $volumes (include "highwater.databaseVolumes" (list .Values.migrate.database "owner")) }}
  {{- end }}
  {{- if or (trim $volumes) $worker.volumes }}
  volumes:
    {{- with trim $volumes }}
    {{- . | nindent 4 }}
    {{- end }}
    {{- with $worker.volumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- end }}
  {{- if $worker.spread.enabled }}
  topologySpreadConstraints:
    {{- range $worker.spread.topologyKeys }}
    - maxSkew: 1
      topologyKey: {{ . }}
      whenUnsatisfiable: {{ $worker.spread.whenUnsatisfiable }}
      labelSelector:
        matchLabels:
          {{- include "highwater.selector" (list $ "worker") | nindent 10 }}
    {{- end }}
  {{- end }}
  {{- with $worker.nodeSelector }}
  nodeSelector: {{ toJson . }}
  {{- end }}
  {{- with $worker.tolerations }}
  tolerations: {{ toJson . }}
  {{- end }}
  {{- with $worker.affinity }}
  affinity: {{ toJson . }}
  {{- end }}
{{- end -}}
