{{- define "ponix.trialSecurity" -}}
runAsNonRoot: true
runAsUser: {{ . }}
runAsGroup: {{ . }}
fsGroup: {{ . }}
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{/* A single store: (dict "root" $ "part" "…" "values" … "uid" 1 "data" "…" "ports" (dict) "env" (dict)
"passwordVariable" "…" "scratch" (list of folders) "probe" (dict)). */}}
{{- define "ponix.trialStore" -}}
{{- if not (and .values.password.name .values.password.key) }}
{{- fail (printf "trial.%s.password: name the Secret with its password, {name: …, key: …}" .part) }}
{{- end -}}
apiVersion: v1
kind: Service
metadata:
  {{- include "ponix.metadata" . | nindent 2 }}
spec:
  selector:
    {{- include "ponix.selector" . | nindent 4 }}
  ports:
    {{- range $name, $port := .ports }}
    - {name: {{ $name }}, port: {{ $port }}, targetPort: {{ $name }}}
    {{- end }}
---
apiVersion: apps/v1
kind: StatefulSet
metadata:
  {{- include "ponix.metadata" . | nindent 2 }}
spec:
  serviceName: {{ include "ponix.fullname" .root }}-{{ .part }}
  replicas: 1
  selector:
    matchLabels:
      {{- include "ponix.selector" . | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "ponix.labels" . | nindent 8 }}
    spec:
      automountServiceAccountToken: false
      enableServiceLinks: false
      terminationGracePeriodSeconds: 60
      securityContext:
        {{- include "ponix.trialSecurity" .uid | nindent 8 }}
      containers:
        - name: {{ .part }}
          image: {{ .values.image }}
          env:
            {{- range $name, $value := .env }}
            - {name: {{ $name }}, value: {{ $value | quote }}}
            {{- end }}
            - name: {{ .passwordVariable }}
              valueFrom:
                secretKeyRef:
                  {{- toYaml .values.password | nindent 18 }}
          ports:
            {{- range $name, $port := .ports }}
            - {name: {{ $name }}, containerPort: {{ $port }}}
            {{- end }}
          startupProbe:
            {{- toYaml .probe | nindent 12 }}
            periodSeconds: 2
            failureThreshold: 90
          readinessProbe:
            {{- toYaml .probe | nindent 12 }}
            periodSeconds: 5
          resources:
            requests: {cpu: 250m, memory: 512Mi}
            limits: {memory: 2Gi}
          securityContext:
            {{- include "ponix.containerSecurity" . | nindent 12 }}
          volumeMounts:
            - {name: data, mountPath: {{ .data }}}
            {{- range .scratch }}
            - {name: scratch, mountPath: {{ . }}, subPath: {{ . | trimPrefix "/" | replace "/" "-" }}}
            {{- end }}
      volumes:
        - name: scratch
          emptyDir: {}
  volumeClaimTemplates:
    - metadata:
        name: data
      spec:
        accessModes: [ReadWriteOnce]
        resources:
          requests: {storage: {{ .values.storage }}}
{{- end -}}
