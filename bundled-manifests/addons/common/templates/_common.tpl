{{- /* What all add-ons have in common. The operator adds this file, and the schema beside it, to each chart. */}}

{{- define "addon.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/part-of: meshwright-addons
{{- end }}

{{- /* `app` is what `istioctl dashboard` looks for. */}}
{{- define "addon.labels" -}}
app: {{ .Chart.Name }}
{{ include "addon.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{- define "addon.image" -}}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest | quote }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository .Values.image.tag | quote }}
{{- end }}
{{- end }}

{{- define "addon.serviceAccount" -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ .Chart.Name }}
  labels:
    {{- include "addon.labels" . | nindent 4 }}
automountServiceAccountToken: false
{{- end }}

{{- /* Metadata and specification of a Deployment down to its pods' own fields. One pod: none of these shares its data. */}}
{{- define "addon.deployment" -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ .Chart.Name }}
  labels:
    {{- include "addon.labels" . | nindent 4 }}
spec:
  replicas: 1
  strategy:
    type: Recreate
  selector:
    matchLabels:
      {{- include "addon.selector" . | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "addon.labels" . | nindent 8 }}
        sidecar.istio.io/inject: "false"
        istio.io/dataplane-mode: none
{{- end }}

{{- /* On OpenShift the users come from the namespace's range, and another one is refused. */}}
{{- define "addon.pod" -}}
serviceAccountName: {{ .Chart.Name }}
securityContext:
  runAsNonRoot: true
  {{- if not .Values.mesh.assignsUsers }}
  runAsUser: {{ .Values.user }}
  runAsGroup: {{ .Values.user }}
  fsGroup: {{ .Values.user }}
  {{- end }}
  seccompProfile:
    type: RuntimeDefault
{{- with .Values.mesh.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . | quote }}
  {{- end }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "addon.container" -}}
name: {{ .Chart.Name }}
image: {{ include "addon.image" . }}
{{- with .Values.mesh.pullPolicy }}
imagePullPolicy: {{ . }}
{{- end }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop:
      - ALL
resources:
  {{- toYaml .Values.resources | nindent 2 }}
{{- end }}

{{- /* Nobody but the other add-ons, and who is named in the values. A port-forward comes from the node, which no policy
keeps out: who may do that is Kubernetes' own matter. */}}
{{- define "addon.networkPolicy" -}}
{{- if .Values.networkPolicy.enabled -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ .Chart.Name }}
  labels:
    {{- include "addon.labels" . | nindent 4 }}
spec:
  podSelector:
    matchLabels:
      {{- include "addon.selector" . | nindent 6 }}
  policyTypes:
    - Ingress
  ingress:
    - from:
        - podSelector:
            matchLabels:
              app.kubernetes.io/part-of: meshwright-addons
        {{- with .Values.networkPolicy.from }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
{{- end }}
{{- end }}
