{{- /*
Every right of the running operator. `create` beside `patch`: server-side apply of what is not there yet needs both.
Secrets and claims are never deleted: data outlives its platform.
*/ -}}
{{- define "aether.rules" -}}
- apiGroups: [trading.aether.io]
  resources: [tradingplatforms]
  verbs: [get, list, watch]
- apiGroups: [trading.aether.io]
  resources: [tradingplatforms/status]
  verbs: [patch]
- apiGroups: [""]
  resources: [secrets, persistentvolumeclaims]
  verbs: [get, list, watch, create, patch]
- apiGroups: [""]
  resources: [services, configmaps]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [apps]
  resources: [statefulsets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [pods]  # patch: one annotation, which has the kubelet look at new settings
  verbs: [list, watch, patch]
- apiGroups: [events.k8s.io]
  resources: [events]  # list: why a pod or a volume that should be there is not
  verbs: [create, list, patch]
- apiGroups: [""]
  resources: [namespaces]  # its own: a Role reaches no other
  verbs: [get]
{{- end -}}
