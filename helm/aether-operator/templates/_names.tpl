{{- /* The name of the operator's Deployment, ServiceAccount, Lease and Roles. */ -}}
{{- define "aether.name" -}}
{{- if contains "aether-operator" .Release.Name -}}
{{ .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-aether-operator" .Release.Name | trunc 50 | trimSuffix "-" }}
{{- end -}}
{{- end -}}

{{- /* The name of cluster-scoped objects, unique per release. */ -}}
{{- define "aether.clusterName" -}}
{{ include "aether.name" . }}.{{ .Release.Namespace }}.trading.aether.io
{{- end -}}

{{- /* CEL: whether a request is the operator's. */ -}}
{{- define "aether.isOperator" -}}
request.userInfo.username == 'system:serviceaccount:{{ .Release.Namespace }}:{{ include "aether.name" . }}'
{{- end -}}

{{- define "aether.selector" -}}
app.kubernetes.io/name: aether-operator
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{- define "aether.labels" -}}
{{ include "aether.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
app.kubernetes.io/part-of: aether
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | quote }}
{{- end -}}

{{- define "aether.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* The operator's configuration; a test parses it with the operator's own model. */ -}}
{{- define "aether.config" -}}
{{- $images := dict -}}
{{- range $server := list "postgres" "kafka" "nats" "redis" -}}
{{- $image := index $.Values.dataPlaneImages $server -}}
{{- $_ := set $images $server ($image | default (printf "aether/%s:%s" $server $.Chart.AppVersion)) -}}
{{- end -}}
{{- $pull := list -}}
{{- range .Values.imagePullSecrets -}}
{{- $pull = append $pull .name -}}
{{- end -}}
{{- $release := dict
  "images" $images
  "serviceImage" (.Values.serviceImage | default (printf "aether/service:%s" .Chart.AppVersion))
  "imagePullSecrets" $pull
  "nodeSelector" (.Values.nodeSelector | default dict)
  "tolerations" (.Values.tolerations | default list)
  "priorityClassName" (.Values.priorityClassName | default "")
  "extraLabels" (.Values.extraLabels | default dict)
  "operatorNamespace" .Release.Namespace
-}}
{{- dict
  "namespaces" .Values.namespaces
  "lease" (dict "namespace" .Release.Namespace "name" (include "aether.name" .))
  "release" $release
  "port" 8080
| toPrettyJson -}}
{{- end -}}
