{{- define "pgproxy.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* The release's name if it has the chart's in it, else both. Short: suffixes come behind it. */}}
{{- define "pgproxy.fullname" -}}
{{- $name := include "pgproxy.name" . -}}
{{- $both := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- .Values.fullnameOverride | default $both | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "pgproxy.selector" -}}
app.kubernetes.io/name: {{ include "pgproxy.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* Those of pods; a chart's version in them would start new ones for nothing. */}}
{{- define "pgproxy.podLabels" -}}
{{ include "pgproxy.selector" . }}
app.kubernetes.io/component: proxy
app.kubernetes.io/part-of: pgproxy
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end -}}

{{- define "pgproxy.labels" -}}
{{ include "pgproxy.podLabels" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 }}
{{- end -}}

{{- define "pgproxy.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "pgproxy.fullname" .) -}}
{{- else -}}
{{- required "serviceAccount.name is needed without serviceAccount.create" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}
