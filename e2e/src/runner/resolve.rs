//! Resolves a container's args and env like the kubelet, from objects that were fetched before.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, EnvVar, EnvVarSource, ObjectFieldSelector, Pod, ResourceFieldSelector};

use super::quantity;

/// Data of `ConfigMaps` or Secrets as text, by name.
pub(super) type Data = BTreeMap<String, BTreeMap<String, String>>;

/// Everything that env can refer to in addition to the Pod.
#[derive(Debug, Default)]
pub(super) struct Sources {
    pub(super) config_maps: Data,
    pub(super) secrets: Data,
    pub(super) pod_ip: String,
    pub(super) host_ip: String,
    /// Quantities of the machine by resource, as defaults for unset limits.
    pub(super) machine: BTreeMap<String, String>,
}

/// Names of the `ConfigMaps` and Secrets that a container's env refers to.
pub(super) fn referenced(container: &Container) -> (Vec<String>, Vec<String>) {
    let from = || container.env.iter().flatten().filter_map(|var| var.value_from.as_ref());
    let config_maps = from().filter_map(|from| Some(from.config_map_key_ref.as_ref()?.name.clone()));
    let secrets = from().filter_map(|from| Some(from.secret_key_ref.as_ref()?.name.clone()));
    (config_maps.collect(), secrets.collect())
}

/// A container's environment, in order; a later variable replaces an earlier one with the same name. The error is the
/// kubelet's message for `CreateContainerConfigError`.
pub(super) fn environment(
    pod: &Pod,
    container: &Container,
    sources: &Sources,
) -> Result<Vec<(String, String)>, String> {
    let mut env: Vec<(String, String)> = Vec::new();
    for var in container.env.iter().flatten() {
        let value = match &var.value_from {
            Some(from) => match referred(pod, container, sources, from)? {
                Some(value) => value,
                None => continue,
            },
            None => expand(var.value.as_deref().unwrap_or_default(), &env),
        };
        set(&mut env, var, value);
    }
    Ok(env)
}

/// A container's arguments: its command without the program, which the lab replaces, then its args.
pub(super) fn arguments(container: &Container, env: &[(String, String)]) -> Vec<String> {
    let command = container.command.iter().flatten().skip(1);
    command.chain(container.args.iter().flatten()).map(|arg| expand(arg, env)).collect()
}

/// Expands `$(NAME)` if NAME is defined; `$$` escapes a `$`, so `$$(NAME)` becomes `$(NAME)`.
fn expand(text: &str, env: &[(String, String)]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        let reference = after.strip_prefix('(').and_then(|inner| inner.split_once(')'));
        let value = reference.and_then(|(name, tail)| Some((env.iter().find(|(known, _)| known == name)?, tail)));
        if let Some(((_, value), tail)) = value {
            out.push_str(value);
            rest = tail;
        } else {
            out.push('$');
            rest = after.strip_prefix('$').unwrap_or(after);
        }
    }
    out.push_str(rest);
    out
}

fn set(env: &mut Vec<(String, String)>, var: &EnvVar, value: String) {
    match env.iter_mut().find(|(name, _)| *name == var.name) {
        Some(known) => known.1 = value,
        None => env.push((var.name.clone(), value)),
    }
}

fn referred(
    pod: &Pod,
    container: &Container,
    sources: &Sources,
    from: &EnvVarSource,
) -> Result<Option<String>, String> {
    if let Some(field) = &from.field_ref {
        return field_of(pod, sources, field).map(Some);
    }
    if let Some(resource) = &from.resource_field_ref {
        return resource_of(container, sources, resource).map(Some);
    }
    if let Some(key) = &from.config_map_key_ref {
        return key_of("configmap", &sources.config_maps, &key.name, &key.key, key.optional);
    }
    if let Some(key) = &from.secret_key_ref {
        return key_of("secret", &sources.secrets, &key.name, &key.key, key.optional);
    }
    Err("this kind of valueFrom is not supported by the lab".to_owned())
}

fn key_of(kind: &str, data: &Data, name: &str, key: &str, optional: Option<bool>) -> Result<Option<String>, String> {
    let object = data.get(name);
    let missing = || match object {
        None => format!("{kind} \"{name}\" not found"),
        Some(_) => format!("couldn't find key {key} in {kind} {name}"),
    };
    match object.and_then(|object| object.get(key)) {
        Some(value) => Ok(Some(value.clone())),
        None if optional == Some(true) => Ok(None),
        None => Err(missing()),
    }
}

fn field_of(pod: &Pod, sources: &Sources, field: &ObjectFieldSelector) -> Result<String, String> {
    let (metadata, spec) = (&pod.metadata, pod.spec.as_ref());
    let entry = |map: &Option<BTreeMap<String, String>>, key: &str| {
        map.as_ref().and_then(|map| map.get(key)).cloned().unwrap_or_default()
    };
    let path = field.field_path.as_str();
    if let Some((name, key)) = path.strip_suffix("']").and_then(|path| path.split_once("['")) {
        return match name {
            "metadata.labels" => Ok(entry(&metadata.labels, key)),
            "metadata.annotations" => Ok(entry(&metadata.annotations, key)),
            _ => Err(format!("field path {path} is not supported")),
        };
    }
    let value = match path {
        "metadata.name" => metadata.name.clone(),
        "metadata.namespace" => metadata.namespace.clone(),
        "metadata.uid" => metadata.uid.clone(),
        "spec.nodeName" => spec.and_then(|spec| spec.node_name.clone()),
        "spec.serviceAccountName" => spec.and_then(|spec| spec.service_account_name.clone()),
        "status.podIP" | "status.podIPs" => Some(sources.pod_ip.clone()),
        "status.hostIP" | "status.hostIPs" => Some(sources.host_ip.clone()),
        _ => return Err(format!("field path {path} is not supported")),
    };
    Ok(value.unwrap_or_default())
}

fn resource_of(container: &Container, sources: &Sources, field: &ResourceFieldSelector) -> Result<String, String> {
    let (kind, name) = field.resource.split_once('.').unwrap_or(("", field.resource.as_str()));
    let resources = container.resources.as_ref();
    let amounts = match kind {
        "limits" => resources.and_then(|resources| resources.limits.as_ref()),
        "requests" => resources.and_then(|resources| resources.requests.as_ref()),
        _ => return Err(format!("resource {} is not supported", field.resource)),
    };
    let set = amounts.and_then(|amounts| amounts.get(name)).map(|quantity| quantity.0.clone());
    let amount = match (set, kind) {
        (Some(amount), _) => amount,
        // An unset limit defaults to the node's capacity.
        (None, "limits") => sources.machine.get(name).cloned().unwrap_or_else(|| "0".to_owned()),
        (None, _) => "0".to_owned(),
    };
    let divisor = field.divisor.as_ref().map_or("1", |divisor| divisor.0.as_str());
    let value = quantity::divided(&amount, divisor);
    value.map(|value| value.to_string()).ok_or_else(|| format!("{amount} by {divisor}: not quantities"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(container: &serde_json::Value) -> Pod {
        let spec = json!({"nodeName": "node-1", "serviceAccountName": "istiod", "containers": [container]});
        let metadata = json!({"name": "istiod-1", "namespace": "istio-system", "labels": {"app": "istiod"}});
        serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
    }

    type Resolved = (Vec<(String, String)>, Vec<String>);

    fn resolve(container: &serde_json::Value) -> Result<Resolved, String> {
        let pod = pod(container);
        let container = &pod.spec.as_ref().unwrap().containers[0];
        let sources = Sources {
            config_maps: BTreeMap::from([("settings".into(), BTreeMap::from([("colour".into(), "red".into())]))]),
            pod_ip: "10.99.0.1".into(),
            machine: BTreeMap::from([("cpu".into(), "2".into())]),
            ..Sources::default()
        };
        let env = environment(&pod, container, &sources)?;
        let args = arguments(container, &env);
        Ok((env, args))
    }

    #[test]
    fn resolves_pod_fields_and_default_limits() {
        let env = json!([
            {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "APP", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
            {"name": "GOMAXPROCS", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1"}}},
        ]);
        let (env, _) = resolve(&json!({"name": "discovery", "env": env})).unwrap();
        let values: Vec<_> = env.iter().map(|(_, value)| value.as_str()).collect();
        assert_eq!(values, ["istiod-1", "10.99.0.1", "istiod", "2"]);
    }

    #[test]
    fn expands_and_escapes_references() {
        let env = json!([{"name": "A", "value": "1"}, {"name": "B", "value": "$(A)2"}]);
        let args = json!(["$(B)", "$$(B)", "$(C)", "$", "a$(A)b"]);
        let (_, args) = resolve(&json!({"name": "c", "command": ["/bin/x", "run"], "args": args, "env": env})).unwrap();
        assert_eq!(args, ["run", "12", "$(B)", "$(C)", "$", "a1b"]);
    }

    #[test]
    fn later_variable_wins() {
        let env = json!([{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]);
        assert_eq!(resolve(&json!({"name": "c", "env": env})).unwrap().0, [("A".to_owned(), "2".to_owned())]);
    }

    #[test]
    fn missing_key_fails_unless_optional() {
        let key = |key: &str, optional: bool| {
            let from = json!({"configMapKeyRef": {"name": "settings", "key": key, "optional": optional}});
            resolve(&json!({"name": "c", "env": [{"name": "A", "valueFrom": from}]}))
        };
        assert_eq!(key("colour", false).unwrap().0, [("A".to_owned(), "red".to_owned())]);
        assert!(key("size", true).unwrap().0.is_empty());
        assert_eq!(key("size", false).unwrap_err(), "couldn't find key size in configmap settings");
    }
}
