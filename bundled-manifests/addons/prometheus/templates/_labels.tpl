{{- /* Labels of a target. Istio's metrics have their own labels for source and destination workloads. */}}
{{- define "prometheus.labels" -}}
- source_labels: [__meta_kubernetes_namespace]
  target_label: namespace
- source_labels: [__meta_kubernetes_pod_name]
  target_label: pod
- source_labels: [__meta_kubernetes_pod_label_app]
  target_label: app
- source_labels: [__meta_kubernetes_pod_label_version]
  target_label: version
{{- end }}
