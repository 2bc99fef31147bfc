{{- /* Templates shared by all add-ons. The operator adds this file and values.schema.json to each chart. */}}

{{- define "addon.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/part-of: meshwright-addons
{{- end }}

{{- /* `istioctl dashboard` selects pods by the label `app`. */}}
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

{{- /* A Deployment without its pod spec. One replica, because none of the add-ons shares data between replicas. */}}
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

{{- /* OpenShift assigns users from the namespace's UID range and rejects other users. */}}
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
{{- with .Values.mesh.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ .name | quote }}
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

{{- /* Allows ingress from the other add-ons and from networkPolicy.from only. NetworkPolicies do not apply to
port-forwards, which come from the node and are controlled by RBAC. */}}
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
