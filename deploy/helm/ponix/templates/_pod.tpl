{{/* A number as it was written: those of a file of values come as floating point. */}}
{{- define "ponix.text" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) -}}
{{ printf "%.0f" . }}
{{- else -}}
{{ toString . }}
{{- end -}}
{{- end -}}

{{/* The NATS user of a part, where the trial NATS has a user for each role. */}}
{{- define "ponix.natsRole" -}}
{{- $nats := .root.Values.trial.nats -}}
{{- if and $nats.enabled $nats.users.name -}}
{{- if eq .part "api" }}api{{ else if hasPrefix "worker" .part }}worker{{ else }}operator{{ end -}}
{{- end -}}
{{- end -}}

{{/* The variables of a part as JSON: (dict "root" $ "values" .Values.api "forced" (dict …)). */}}
{{- define "ponix.config" -}}
{{- $role := include "ponix.natsRole" . -}}
{{- $login := empty $role | ternary dict (dict "PONIX_NATS_USER" $role "PONIX_NATS_INBOX_PREFIX" (printf "_INBOX_%s" $role)) -}}
{{- mustMergeOverwrite (dict "PONIX_ADMIN_ADDR" "0.0.0.0:9090") (deepCopy (.root.Values.config | default dict)) (deepCopy (.values.config | default dict)) $login .forced | toJson -}}
{{- end -}}

{{- define "ponix.secretConfig" -}}
{{- $role := include "ponix.natsRole" . -}}
{{- $login := empty $role | ternary dict (dict "PONIX_NATS_PASSWORD" (dict "name" .root.Values.trial.nats.users.name "key" $role)) -}}
{{- mustMergeOverwrite (dict) (deepCopy (.root.Values.secretConfig | default dict)) (deepCopy (.values.secretConfig | default dict)) $login | toJson -}}
{{- end -}}

{{- define "ponix.secretFiles" -}}
{{- mustMergeOverwrite (dict) (deepCopy (.root.Values.secretFiles | default dict)) (deepCopy (.values.secretFiles | default dict)) | toJson -}}
{{- end -}}

{{- define "ponix.env" -}}
{{- $secrets := include "ponix.secretConfig" . | fromJson -}}
{{- $files := include "ponix.secretFiles" . | fromJson -}}
{{- range $name, $value := include "ponix.config" . | fromJson }}
{{- if not (or (hasKey $secrets $name) (hasKey $files $name)) }}
- name: {{ $name }}
  value: {{ include "ponix.text" $value | quote }}
{{- end }}
{{- end }}
{{- range $name, $key := $secrets }}
- name: {{ $name }}
  valueFrom:
    secretKeyRef:
      {{- toYaml $key | nindent 6 }}
{{- end }}
{{- range $name, $key := $files }}
- name: {{ $name }}
  value: /etc/ponix/secrets/{{ $name | lower | replace "_" "-" }}/{{ $key.key }}
{{- end }}
{{- end -}}

{{- define "ponix.secretMounts" -}}
{{- range $name, $key := include "ponix.secretFiles" . | fromJson }}
- name: {{ $name | lower | replace "_" "-" }}
  mountPath: /etc/ponix/secrets/{{ $name | lower | replace "_" "-" }}
  readOnly: true
{{- end }}
{{- end -}}

{{- define "ponix.secretVolumes" -}}
{{- range $name, $key := include "ponix.secretFiles" . | fromJson }}
- name: {{ $name | lower | replace "_" "-" }}
  secret:
    secretName: {{ $key.name }}
    # For the group that fsGroup names: nobody else reads it.
    defaultMode: 0440
    items:
      - key: {{ $key.key }}
        path: {{ $key.key }}
{{- end }}
{{- end -}}

{{- define "ponix.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "ponix.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{/* Where the pods of a part may be. */}}
{{- define "ponix.placement" -}}
{{- with .values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if .root.Values.topologySpread }}
topologySpreadConstraints:
  {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "ponix.selector" $ | nindent 8 }}
  {{- end }}
{{- end }}
{{- end -}}

{{- define "ponix.adminProbes" -}}
startupProbe:
  httpGet: {path: /livez, port: admin}
  periodSeconds: 2
  failureThreshold: 30
livenessProbe:
  httpGet: {path: /livez, port: admin}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
{{- end -}}

{{/* Documents as volumes: (dict "root" $ "documents" list of names of ConfigMaps). */}}
{{- define "ponix.documentVolumes" -}}
{{- if .pipelines }}
- name: pipelines
  projected:
    sources:
      {{- range .pipelines }}
      - configMap:
          name: {{ . }}
      {{- end }}
{{- end }}
{{- with include "ponix.entitiesConfigMap" .root }}
- name: entities
  configMap:
    name: {{ . }}
{{- end }}
{{- end -}}

{{- define "ponix.documentMounts" -}}
{{- if .pipelines }}
- name: pipelines
  mountPath: /etc/ponix/pipelines
  readOnly: true
{{- end }}
{{- if include "ponix.entitiesConfigMap" .root }}
- name: entities
  mountPath: /etc/ponix/entities
  readOnly: true
{{- end }}
{{- end -}}

{{- define "ponix.entitiesConfigMap" -}}
{{- if .Values.entities.configMap -}}
{{ .Values.entities.configMap }}
{{- else if .Values.entities.files -}}
{{ include "ponix.fullname" . }}-entities
{{- end -}}
{{- end -}}

{{/* Seconds that a pod gets to stop: what the service takes at most, with its closers. */}}
{{- define "ponix.grace" -}}
{{- $config := include "ponix.config" . | fromJson -}}
{{- add (ceil (get $config "PONIX_SHUTDOWN_TIMEOUT_SECS" | default 10 | toString | float64)) 20 -}}
{{- end -}}

{{/*
A Deployment of a part: (dict "root" $ "part" "worker-x" "values" values "forced" (dict of variables)
"pipelines" (list of ConfigMaps) "replicas" 1 or nil "program" "…" "http" bool "documents" text for the checksum).
*/}}
{{- define "ponix.deployment" -}}
{{- $forced := deepCopy .forced -}}
{{- if .pipelines }}{{ $_ := set $forced "PONIX_PIPELINES_DIR" "/etc/ponix/pipelines" }}{{ end -}}
{{- if include "ponix.entitiesConfigMap" .root }}{{ $_ := set $forced "PONIX_ENTITIES_DIR" "/etc/ponix/entities" }}{{ end -}}
{{- $part := mustMerge (dict "forced" $forced) . -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  {{- include "ponix.metadata" . | nindent 2 }}
spec:
  {{- if not (kindIs "invalid" .replicas) }}
  replicas: {{ .replicas }}
  {{- end }}
  revisionHistoryLimit: 3
  strategy:
    type: RollingUpdate
    rollingUpdate: {maxSurge: 1, maxUnavailable: 0}
  selector:
    matchLabels:
      {{- include "ponix.selector" . | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "ponix.labels" . | nindent 8 }}
      annotations:
        checksum/documents: {{ print (.documents | default "") (.root.Values.entities.files | toJson) | sha256sum }}
        {{- with .values.podAnnotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec:
      serviceAccountName: {{ include "ponix.serviceAccount" .root }}
      automountServiceAccountToken: false
      enableServiceLinks: false
      terminationGracePeriodSeconds: {{ include "ponix.grace" $part }}
      {{- with .root.Values.imagePullSecrets }}
      imagePullSecrets:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      securityContext:
        {{- include "ponix.podSecurity" . | nindent 8 }}
      {{- include "ponix.placement" . | nindent 6 }}
      containers:
        - name: ponix
          image: {{ include "ponix.image" .root }}
          imagePullPolicy: {{ .root.Values.image.pullPolicy }}
          command: [/usr/local/bin/{{ .program }}]
          env:
            {{- include "ponix.env" $part | nindent 12 }}
          ports:
            - {name: admin, containerPort: 9090}
            {{- if .http }}
            - {name: http, containerPort: 8080}
            {{- end }}
          {{- include "ponix.adminProbes" . | nindent 10 }}
          readinessProbe:
            # Of the API: whether it can take something in; of the others: whether all works.
            httpGet: {path: {{ .http | ternary "/ready" "/readyz" }}, port: {{ .http | ternary "http" "admin" }}{{ if and .http .tls }}, scheme: HTTPS{{ end }}}
            periodSeconds: 3
            timeoutSeconds: 3
            failureThreshold: 2
          resources:
            {{- toYaml .values.resources | nindent 12 }}
          securityContext:
            {{- include "ponix.containerSecurity" . | nindent 12 }}
          {{- $mounts := print (include "ponix.documentMounts" $part) (include "ponix.secretMounts" $part) }}
          {{- with $mounts | trim }}
          volumeMounts:
            {{- . | nindent 12 }}
          {{- end }}
      {{- $volumes := print (include "ponix.documentVolumes" $part) (include "ponix.secretVolumes" $part) }}
      {{- with $volumes | trim }}
      volumes:
        {{- . | nindent 8 }}
      {{- end }}
{{- end -}}

{{/* A Job that is a hook: (dict "root" $ "part" "migrate" "values" values "hook" "…" "command" (list …) "configMap" name). */}}
{{- define "ponix.hookJob" -}}
{{- /* Of a configuration for all parts only what concerns the servers counts here. */ -}}
{{- $forced := dict "PONIX_INGEST_ENABLED" "false" "PONIX_POSTGRES_URL" "" "PONIX_PIPELINES_MODE" "off" "PONIX_INTERVAL_SECS" "0" -}}
{{- $part := mustMerge (dict "forced" $forced) . -}}
apiVersion: batch/v1
kind: Job
metadata:
  {{- include "ponix.metadata" . | nindent 2 }}
  annotations:
    helm.sh/hook: {{ .hook }}
    helm.sh/hook-weight: {{ .weight | quote }}
    # One that failed stays, to be looked at.
    helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
spec:
  backoffLimit: {{ .values.backoffLimit }}
  activeDeadlineSeconds: {{ .values.deadlineSecs }}
  template:
    metadata:
      labels:
        {{- include "ponix.labels" . | nindent 8 }}
    spec:
      restartPolicy: Never
      # The account of the release is not there before the install.
      serviceAccountName: {{ .root.Values.serviceAccount.name | default "default" }}
      automountServiceAccountToken: false
      enableServiceLinks: false
      {{- with .root.Values.imagePullSecrets }}
      imagePullSecrets:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      securityContext:
        {{- include "ponix.podSecurity" . | nindent 8 }}
      containers:
        - name: ponix
          image: {{ include "ponix.image" .root }}
          imagePullPolicy: {{ .root.Values.image.pullPolicy }}
          command: {{ .command | toJson }}
          env:
            {{- include "ponix.env" $part | nindent 12 }}
          resources:
            {{- toYaml .values.resources | nindent 12 }}
          securityContext:
            {{- include "ponix.containerSecurity" . | nindent 12 }}
          {{- $mounts := include "ponix.secretMounts" $part }}
          {{- if or .configMap ($mounts | trim) }}
          volumeMounts:
            {{- with .configMap }}
            - {name: files, mountPath: /etc/ponix/streams, readOnly: true}
            {{- end }}
            {{- with $mounts | trim }}
            {{- . | nindent 12 }}
            {{- end }}
          {{- end }}
      {{- $volumes := include "ponix.secretVolumes" $part }}
      {{- if or .configMap ($volumes | trim) }}
      volumes:
        {{- with .configMap }}
        - name: files
          configMap:
            name: {{ . }}
        {{- end }}
        {{- with $volumes | trim }}
        {{- . | nindent 8 }}
        {{- end }}
      {{- end }}
{{- end -}}
