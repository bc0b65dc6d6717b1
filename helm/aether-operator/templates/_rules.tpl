{{- /*
All RBAC rules of the operator. `create` and `patch`: server-side apply of a new object needs both.
Secrets and PersistentVolumeClaims are never deleted: data outlives its platform.
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
  resources: [pods]  # patch: one annotation, upon which the kubelet syncs the pod's ConfigMaps at once
  verbs: [list, watch, patch]
- apiGroups: [events.k8s.io]
  resources: [events]  # list: why a pod or a volume could not be created
  verbs: [create, list, patch]
- apiGroups: [""]
  resources: [namespaces]  # a Role grants this for its own namespace only
  verbs: [get]
{{- end -}}
