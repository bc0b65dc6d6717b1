{{- /*
All RBAC rules of the operator in a namespace. The rights to kinds that are not Aether's are those of the operator's own
table (operator/aether_operator/observed/kinds.py), which says why it needs them.
*/ -}}
{{- define "aether.rules" -}}
{{- $rights := .Files.Get "files/kinds.yaml" | fromYaml -}}
{{- range $rights.kinds -}}
- apiGroups: [trading.aether.io]
  resources: [{{ .plural }}]
  verbs: [get, list, watch]
- apiGroups: [trading.aether.io]
  resources: [{{ .plural }}/status]
  verbs: [patch]
{{ end }}
{{- range concat $rights.children $rights.pods $rights.events -}}
- apiGroups: [{{ .group | quote }}]
  resources: [{{ .plural }}]
  verbs: {{ toJson .verbs }}
{{ end -}}
- apiGroups: [""]
  resources: [namespaces]  # a Role grants this for its own namespace only
  verbs: [get]
{{- end -}}
