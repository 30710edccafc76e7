//! A container's environment: envFrom, env, Service variables, and `$(NAME)` in values, commands
//! and arguments.

use super::sources::{Sources, field, resource};
use k8s_openapi::api::core::v1::{Container, EnvVarSource, Pod, Service};

/// The environment in the order in which kubelet builds it; the image's own comes before.
///
/// # Errors
/// A text for the reason CreateContainerConfigError: what is missing.
pub(crate) fn environment(
    pod: &Pod,
    container: &Container,
    sources: &Sources,
    services: &[(String, String)],
) -> Result<Vec<(String, String)>, String> {
    let mut env: Vec<(String, String)> = Vec::new();
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        let mut entries = Vec::new();
        if let Some(map) = &from.config_map_ref {
            let optional = map.optional.unwrap_or(false);
            entries = sources.config_map(&map.name, optional)?;
        } else if let Some(secret) = &from.secret_ref {
            let optional = secret.optional.unwrap_or(false);
            entries = sources.secret(&secret.name, optional)?;
        }
        for (key, value) in entries {
            let value = String::from_utf8_lossy(&value).into_owned();
            set(&mut env, format!("{prefix}{key}"), value);
        }
    }
    for var in container.env.iter().flatten() {
        let value = match &var.value_from {
            Some(from) => match value_from(pod, container, sources, from)? {
                Some(value) => value,
                None => continue,
            },
            None => {
                let known = |name: &str| get(&env, name).or_else(|| get(services, name));
                expand(var.value.as_deref().unwrap_or_default(), known)
            }
        };
        set(&mut env, var.name.clone(), value);
    }
    for (name, value) in services {
        if get(&env, name).is_none() {
            env.push((name.clone(), value.clone()));
        }
    }
    Ok(env)
}

fn value_from(
    pod: &Pod,
    container: &Container,
    sources: &Sources,
    from: &EnvVarSource,
) -> Result<Option<String>, String> {
    if let Some(reference) = &from.field_ref {
        return field(pod, &reference.field_path, &sources.addresses).map(Some);
    }
    if let Some(reference) = &from.resource_field_ref {
        return resource(container, reference, sources.capacity).map(Some);
    }
    let found = if let Some(key) = &from.config_map_key_ref {
        sources.config_map_key(&key.name, &key.key, key.optional.unwrap_or(false))?
    } else if let Some(key) = &from.secret_key_ref {
        sources.secret_key(&key.name, &key.key, key.optional.unwrap_or(false))?
    } else {
        return Ok(Some(String::new()));
    };
    Ok(found.map(|value| String::from_utf8_lossy(&value).into_owned()))
}

pub(crate) fn get(env: &[(String, String)], name: &str) -> Option<String> {
    let found = env.iter().find(|(known, _)| known == name);
    found.map(|(_, value)| value.clone())
}

/// Sets a variable; one that is there already keeps its place.
pub(crate) fn set(env: &mut Vec<(String, String)>, name: String, value: String) {
    match env.iter_mut().find(|(known, _)| *known == name) {
        Some(entry) => entry.1 = value,
        None => env.push((name, value)),
    }
}

/// Replaces `$(NAME)` by the value of a known variable; `$$` is a dollar sign, anything else stays
/// as it is (the rule of apimachinery's `third_party/forked/golang/expansion`).
pub(crate) fn expand(text: &str, known: impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(tail) = after.strip_prefix('$') {
            out.push('$');
            rest = tail;
        } else if let Some((name, tail)) = after.strip_prefix('(').and_then(|inside| inside.split_once(')')) {
            match known(name) {
                Some(value) => out.push_str(&value),
                None => out.push_str(&format!("$({name})")),
            }
            rest = tail;
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

/// The variables of Services, in the style of Kubernetes (`WEB_SERVICE_HOST`) and of Docker's links
/// (`WEB_PORT_80_TCP_ADDR`).
pub(crate) fn service_variables(services: &[Service]) -> Vec<(String, String)> {
    let mut env = Vec::new();
    for service in services {
        let Some(spec) = &service.spec else { continue };
        let address = spec.cluster_ip.as_deref().unwrap_or_default();
        let ports = spec.ports.as_deref().unwrap_or_default();
        let (Some(name), Some(first)) = (&service.metadata.name, ports.first()) else {
            continue;
        };
        if address.is_empty() || address == "None" {
            continue;
        }
        let prefix = name.to_uppercase().replace('-', "_");
        let mut add = |suffix: &str, value: String| env.push((format!("{prefix}_{suffix}"), value));
        add("SERVICE_HOST", address.into());
        add("SERVICE_PORT", first.port.to_string());
        for port in ports {
            if let Some(name) = port.name.as_deref().filter(|name| !name.is_empty()) {
                let name = name.to_uppercase().replace('-', "_");
                add(&format!("SERVICE_PORT_{name}"), port.port.to_string());
            }
        }
        for (index, port) in ports.iter().enumerate() {
            let protocol = port.protocol.as_deref().unwrap_or("TCP");
            let lower = protocol.to_lowercase();
            let url = format!("{lower}://{address}:{}", port.port);
            if index == 0 {
                add("PORT", url.clone());
            }
            let link = format!("PORT_{}_{protocol}", port.port);
            add(&link, url);
            add(&format!("{link}_PROTO"), lower);
            add(&format!("{link}_PORT"), port.port.to_string());
            add(&format!("{link}_ADDR"), address.into());
        }
    }
    env
}

#[cfg(test)]
mod tests;
