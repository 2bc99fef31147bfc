{{- /* Whether an object belongs to the release; empty if not. */ -}}
{{- define "meshwright.wanted" -}}
{{- if eq .object.kind "Namespace" -}}
{{- if .values.mesh.createNamespace }}yes{{ end -}}
{{- else if eq .object.kind "ServiceMonitor" -}}
{{- if .values.serviceMonitor.enabled }}yes{{ end -}}
{{- else if hasKey .object "kind" -}}
yes
{{- end -}}
{{- end -}}

{{- /* Changes an object as release and values ask. */ -}}
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
{{- if eq $object.kind "Deployment" -}}
{{- $_ := set $object.spec "replicas" (int $values.replicas) -}}
{{- $pod := $object.spec.template.spec -}}
{{- with $values.image.pullSecrets -}}
{{- $secrets := list }}{{ range . }}{{ $secrets = append $secrets (dict "name" .) }}{{ end -}}
{{- $_ := set $pod "imagePullSecrets" $secrets -}}
{{- end -}}
{{- with $values.nodeSelector }}{{ $_ := set $pod "nodeSelector" . }}{{ end -}}
{{- with $values.tolerations }}{{ $_ := set $pod "tolerations" . }}{{ end -}}
{{- $container := index $pod.containers 0 -}}
{{- $tag := $values.image.tag | default .top.Chart.AppVersion -}}
{{- $separator := ternary "@" ":" (hasPrefix "sha256:" $tag) -}}
{{- $_ := set $container "image" (print $values.image.repository $separator $tag) -}}
{{- $_ := set $container "imagePullPolicy" $values.image.pullPolicy -}}
{{- $_ := set $container "resources" $values.resources -}}
{{- $env := list -}}
{{- with $values.catalog.places }}{{ $env = append $env (dict "name" "MESHWRIGHT_CATALOG" "value" (join ":" .)) }}{{ end -}}
{{- if $values.catalog.plainHTTP }}{{ $env = append $env (dict "name" "MESHWRIGHT_CATALOG_PLAIN_HTTP" "value" "true") }}{{ end -}}
{{- with $values.catalog.credentialsSecret -}}
{{- $env = append $env (dict "name" "DOCKER_CONFIG" "value" "/etc/meshwright/registry") -}}
{{- $mount := dict "name" "registry" "mountPath" "/etc/meshwright/registry" "readOnly" true -}}
{{- $_ := set $container "volumeMounts" (append $container.volumeMounts $mount) -}}
{{- $item := dict "key" ".dockerconfigjson" "path" "config.json" -}}
{{- $secret := dict "secretName" . "items" (list $item) -}}
{{- $_ := set $pod "volumes" (append $pod.volumes (dict "name" "registry" "secret" $secret)) -}}
{{- end -}}
{{- $_ := set $container "env" (concat $container.env $env) -}}
{{- end -}}
{{- end -}}
