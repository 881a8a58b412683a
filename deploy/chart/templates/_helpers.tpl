{{- define "berth.labels" -}}
app.kubernetes.io/name: berth
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- /* Labels of one part's pods: a dict of `root` and `part`. */ -}}
{{- define "berth.selector" -}}
{{ include "berth.labels" .root }}
app.kubernetes.io/component: {{ .part }}
{{- end }}

{{- define "berth.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag }}
{{- end }}

{{- define "berth.pluginDir" -}}
{{ .Values.node.kubeletDir }}/plugins/{{ .Values.driverName }}
{{- end }}

{{- /* Flags that both roles have. */ -}}
{{- define "berth.args" -}}
- --config=/etc/berth/pools.yaml
{{- if .Values.storageClassMap }}
- --storage-class-map=/etc/berth/storage-class-map.yaml
{{- end }}
- --driver-name={{ .Values.driverName }}
- --http={{ .Values.http.address }}:{{ .Values.http.port }}
- --log-format={{ .Values.log.format }}
- --log-level={{ .Values.log.level }}
{{- end }}

{{- /* Directories of the node that pools are in, each once. What is in /dev is seen anyway. */ -}}
{{- define "berth.poolPaths" -}}
{{- $paths := list }}
{{- range .Values.pools }}
{{- if not (or (eq .path "/dev") (hasPrefix "/dev/" .path)) }}{{ $paths = append $paths .path }}{{ end }}
{{- end }}
{{- $paths | uniq | sortAlpha | toJson }}
{{- end }}

{{- /* Whether a claim may be deleted because its node is gone. */ -}}
{{- define "berth.deletesClaims" -}}
{{- $deletes := .Values.controller.mayDeleteClaims }}
{{- range .Values.storageClasses }}{{ if .deleteClaimsOfLostNodes }}{{ $deletes = true }}{{ end }}{{ end }}
{{- if $deletes }}true{{ end }}
{{- end }}

{{- /* What speaks to the API server gets the account's token; a sidecar that does not gets none. */ -}}
{{- define "berth.tokenMount" -}}
- {name: token, mountPath: /var/run/secrets/kubernetes.io/serviceaccount, readOnly: true}
{{- end }}

{{- define "berth.tokenVolume" -}}
- name: token
  projected:
    sources:
      - serviceAccountToken: {path: token, expirationSeconds: 3607}
      - configMap: {name: kube-root-ca.crt, items: [{key: ca.crt, path: ca.crt}]}
      - downwardAPI: {items: [{path: namespace, fieldRef: {fieldPath: metadata.namespace}}]}
{{- end }}
