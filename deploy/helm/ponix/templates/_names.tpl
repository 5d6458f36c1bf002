{{- define "ponix.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What selects the pods of a part: (dict "root" $ "part" "api"). */}}
{{- define "ponix.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .part }}
{{- end -}}

{{/* Labels of an object of a part. */}}
{{- define "ponix.labels" -}}
{{ include "ponix.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end -}}

{{/* Name and labels of an object of a part; name is the part's where none is given. */}}
{{- define "ponix.metadata" -}}
name: {{ include "ponix.fullname" .root }}-{{ .name | default .part }}
labels:
  {{- include "ponix.labels" . | nindent 2 }}
{{- end -}}

{{- define "ponix.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* A hook's account: that of the release is not there yet before the install. */}}
{{- define "ponix.serviceAccount" -}}
{{- if .Values.serviceAccount.name -}}
{{ .Values.serviceAccount.name }}
{{- else if .Values.serviceAccount.create -}}
{{ include "ponix.fullname" . }}
{{- else -}}
default
{{- end -}}
{{- end -}}

{{/* The workers that there are, as JSON by name, each with what counts for every worker. */}}
{{- define "ponix.workers" -}}
{{- $workers := dict -}}
{{- range $name, $own := .Values.workers -}}
{{- $worker := mustMergeOverwrite (deepCopy $.Values.workerDefaults) (deepCopy ($own | default dict)) -}}
{{- if $worker.enabled -}}
{{- if not (or $worker.envelopes $worker.messages $worker.pipelines $worker.pipelinesConfigMap) -}}
{{- fail (printf "workers.%s: no pipeline; set envelopes, messages, pipelines or pipelinesConfigMap" $name) -}}
{{- end -}}
{{- if and $worker.pipelines $worker.pipelinesConfigMap -}}
{{- fail (printf "workers.%s: pipelines and pipelinesConfigMap exclude each other" $name) -}}
{{- end -}}
{{- if and $worker.scaling.enabled (not $worker.scaling.pipeline) -}}
{{- if and $worker.envelopes (not (or $worker.messages $worker.pipelines $worker.pipelinesConfigMap)) -}}
{{- $_ := set $worker.scaling "pipeline" "envelopes" -}}
{{- else if and $worker.messages (not (or $worker.envelopes $worker.pipelines $worker.pipelinesConfigMap)) -}}
{{- $_ := set $worker.scaling "pipeline" "messages" -}}
{{- else -}}
{{- fail (printf "workers.%s.scaling.pipeline: name the pipeline whose backlog counts" $name) -}}
{{- end -}}
{{- end -}}
{{- if gt (int $worker.scaling.min) (int $worker.scaling.max) -}}
{{- fail (printf "workers.%s.scaling: min is above max" $name) -}}
{{- end -}}
{{- if and $worker.scaling.enabled (eq $worker.scaling.trigger "jetstream") (not (and $worker.scaling.jetstream.stream $worker.scaling.jetstream.consumer)) -}}
{{- fail (printf "workers.%s.scaling.jetstream: name stream and consumer" $name) -}}
{{- end -}}
{{- $_ := set $workers $name $worker -}}
{{- end -}}
{{- end -}}
{{- $workers | toJson -}}
{{- end -}}

{{/* "true" where there is a keeper. */}}
{{- define "ponix.hasKeeper" -}}
{{- if eq (toString .Values.keeper.enabled) "auto" -}}
{{- range include "ponix.workers" . | fromJson -}}
{{- if .scaling.enabled }}true{{ end -}}
{{- end -}}
{{- else if .Values.keeper.enabled -}}
true
{{- end -}}
{{- end -}}
