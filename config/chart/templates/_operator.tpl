{{- /* Returns "yes" if the values include the object, else an empty string. */ -}}
{{- define "meshwright.wanted" -}}
{{- $kind := get .object "kind" -}}
{{- $values := .values -}}
{{- if eq $kind "Namespace" -}}
{{- if and $values.rbac.create $values.mesh.createNamespace }}yes{{ end -}}
{{- else if hasSuffix "Role" (trimSuffix "Binding" $kind) -}}
{{- if $values.rbac.create }}yes{{ end -}}
{{- else if eq $kind "ServiceMonitor" -}}
{{- if $values.serviceMonitor.enabled }}yes{{ end -}}
{{- else if eq $kind "PrometheusRule" -}}
{{- if $values.prometheusRule.enabled }}yes{{ end -}}
{{- else if eq $kind "ResourceQuota" -}}
{{- if hasPrefix "system-" ($values.priorityClassName | default "") }}yes{{ end -}}
{{- else if $kind -}}
yes
{{- end -}}
{{- end -}}

{{- /* Modifies an object in place, according to the Helm release and the values. */ -}}
{{- define "meshwright.adjust" -}}
{{- $object := .object -}}
{{- $values := .top.Values -}}
{{- $namespaces := dict "meshwright-system" .top.Release.Namespace "istio-system" $values.mesh.namespace -}}
{{- $metadata := $object.metadata -}}
{{- with $metadata.namespace }}{{ $_ := set $metadata "namespace" (get $namespaces .) }}{{ end -}}
{{- range $object.subjects }}{{ $_ := set . "namespace" (get $namespaces .namespace) }}{{ end -}}
{{- if eq $object.kind "Namespace" }}{{ $_ := set $metadata "name" (get $namespaces $metadata.name) }}{{ end -}}
{{- if has $object.kind (list "Namespace" "CustomResourceDefinition") -}}
{{- $_ := set $metadata "annotations" (dict "helm.sh/resource-policy" "keep") -}}
{{- end -}}
{{- if eq $object.kind "Deployment" }}{{ include "meshwright.deployment" . }}{{ end -}}
{{- if eq $object.kind "ServiceMonitor" }}{{ $_ := merge $metadata.labels $values.serviceMonitor.labels }}{{ end -}}
{{- if eq $object.kind "ResourceQuota" -}}
{{- range $object.spec.scopeSelector.matchExpressions }}{{ $_ := set . "values" (list $values.priorityClassName) }}{{ end -}}
{{- end -}}
{{- if eq $object.kind "PrometheusRule" }}{{ include "meshwright.rules" . }}{{ end -}}
{{- end -}}

{{- define "meshwright.rules" -}}
{{- $values := .top.Values.prometheusRule -}}
{{- $_ := merge .object.metadata.labels $values.labels -}}
{{- if $values.runbooks -}}
{{- range .object.spec.groups }}{{ range .rules -}}
{{- $_ := set .annotations "runbook_url" (replace "docs/runbooks.md" $values.runbooks .annotations.runbook) -}}
{{- $_ := unset .annotations "runbook" -}}
{{- end }}{{ end -}}
{{- end -}}
{{- end -}}

{{- define "meshwright.deployment" -}}
{{- $values := .top.Values -}}
{{- $_ := set .object.spec "replicas" (int $values.replicas) -}}
{{- $template := .object.spec.template -}}
{{- $_ := merge $template.metadata.labels $values.podLabels -}}
{{- with $values.podAnnotations }}{{ $_ := set $template.metadata "annotations" . }}{{ end -}}
{{- $pod := $template.spec -}}
{{- with $values.image.pullSecrets -}}
{{- $secrets := list }}{{ range . }}{{ $secrets = append $secrets (dict "name" .) }}{{ end -}}
{{- $_ := set $pod "imagePullSecrets" $secrets -}}
{{- end -}}
{{- $_ := set $pod "nodeSelector" (merge (deepCopy $values.nodeSelector) $pod.nodeSelector) -}}
{{- range list "tolerations" "affinity" "priorityClassName" -}}
{{- $name := . }}{{ with get $values $name }}{{ $_ := set $pod $name . }}{{ end -}}
{{- end -}}
{{- $container := index $pod.containers 0 -}}
{{- $tag := $values.image.tag | default .top.Chart.AppVersion -}}
{{- $separator := ternary "@" ":" (hasPrefix "sha256:" $tag) -}}
{{- $_ := set $container "image" (print $values.image.repository $separator $tag) -}}
{{- $_ := set $container "imagePullPolicy" $values.image.pullPolicy -}}
{{- $_ := set $container "resources" $values.resources -}}
{{- $env := list -}}
{{- $mounts := list -}}
{{- $volumes := list -}}
{{- with $values.catalog.sources }}{{ $env = append $env (dict "name" "MESHWRIGHT_CATALOG" "value" (join ":" .)) }}{{ end -}}
{{- if $values.catalog.plainHTTP }}{{ $env = append $env (dict "name" "MESHWRIGHT_CATALOG_PLAIN_HTTP" "value" "true") }}{{ end -}}
{{- with $values.catalog.credentialsSecret -}}
{{- $env = append $env (dict "name" "DOCKER_CONFIG" "value" "/etc/meshwright/registry") -}}
{{- $mounts = append $mounts (dict "name" "registry" "mountPath" "/etc/meshwright/registry" "readOnly" true) -}}
{{- $item := dict "key" ".dockerconfigjson" "path" "config.json" -}}
{{- $volumes = append $volumes (dict "name" "registry" "secret" (dict "secretName" . "items" (list $item))) -}}
{{- end -}}
{{- $_ := set $container "env" (concat $container.env $env $values.extraEnv) -}}
{{- $_ := set $container "volumeMounts" (concat $container.volumeMounts $mounts $values.extraVolumeMounts) -}}
{{- $_ := set $pod "volumes" (concat $pod.volumes $volumes $values.extraVolumes) -}}
{{- end -}}
