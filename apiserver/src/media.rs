use http::{HeaderMap, header};
use schema::Registry;
use serde_json::Value;

use crate::status::Status;

mod protobuf;

/// How an answer is to look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Output {
    pub(crate) form: Form,
    pub(crate) yaml: bool,
}

/// What stands for the objects in an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Form {
    /// The objects themselves.
    #[default]
    Whole,
    /// A `meta.k8s.io/v1` Table.
    Table,
    /// `meta.k8s.io/v1` PartialObjectMetadata, or a list of it.
    Metadata,
    /// `apidiscovery.k8s.io/v2`; only discovery answers with it.
    Discovery,
}

const OUTPUTS: &str = "application/json, application/yaml";
const INPUTS: &str = "application/json, application/yaml, application/vnd.kubernetes.protobuf";

/// The first of the accepted media types that can be served.
pub(crate) fn output(headers: &HeaderMap) -> Result<Output, Status> {
    let mut accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).peekable();
    if accepted.peek().is_none() {
        return Ok(Output { form: Form::Whole, yaml: false });
    }
    accepted.flat_map(|value| value.split(',')).find_map(range).ok_or_else(|| Status::not_acceptable(OUTPUTS))
}

fn range(range: &str) -> Option<Output> {
    let mut pieces = range.split(';').map(str::trim);
    let yaml = match pieces.next()? {
        "application/json" | "application/*" | "*/*" | "" => false,
        "application/yaml" => true,
        _ => return None,
    };
    let (mut kind, mut group, mut version) = ("", "", "");
    for piece in pieces {
        match piece.split_once('=')? {
            ("as", value) => kind = value,
            ("g", value) => group = value,
            ("v", value) => version = value,
            _ => {}
        }
    }
    let form = match (kind, group, version) {
        ("", _, _) => Form::Whole,
        ("Table", "meta.k8s.io", "v1") => Form::Table,
        ("PartialObjectMetadata" | "PartialObjectMetadataList", "meta.k8s.io", "v1") => Form::Metadata,
        ("APIGroupDiscoveryList", "apidiscovery.k8s.io", "v2") => Form::Discovery,
        _ => return None,
    };
    Some(Output { form, yaml })
}

/// Reads a body, JSON unless its content type says otherwise; and the keys that it has twice.
pub(crate) fn decode(registry: &Registry, headers: &HeaderMap, bytes: &[u8]) -> Result<(Value, Vec<String>), Status> {
    match content_type(headers) {
        "" | "application/json" => from_json(bytes),
        "application/yaml" | "text/yaml" | "application/x-yaml" => from_yaml(bytes),
        "application/vnd.kubernetes.protobuf" => {
            let value =
                protobuf::decode(registry, bytes).map_err(|error| Status::bad_request(format!("proto: {error}")))?;
            Ok((value, Vec::new()))
        }
        _ => Err(Status::unsupported_media(INPUTS)),
    }
}

pub(crate) fn from_json(bytes: &[u8]) -> Result<(Value, Vec<String>), Status> {
    schema::parse(bytes)
        .map_err(|error| Status::bad_request(format!("couldn't get version/kind; json parse error: {error}")))
}

pub(crate) fn from_yaml(bytes: &[u8]) -> Result<(Value, Vec<String>), Status> {
    let text = std::str::from_utf8(bytes).map_err(|_| Status::bad_request("yaml: the body is not UTF-8"))?;
    // Repeated keys are for field validation to judge, so the parser lets the last one win.
    let options = serde_saphyr::options! { duplicate_keys: serde_saphyr::options::DuplicateKeyPolicy::LastWins };
    serde_saphyr::with_deserializer_from_str_with_options(text, options, |reader| schema::read(reader))
        .map_err(|error| Status::bad_request(format!("error converting YAML to JSON: yaml: {error}")))
}

/// Without parameters, "" when there is none.
pub(crate) fn content_type(headers: &HeaderMap) -> &str {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept() {
        let whole = Some(Output { form: Form::Whole, yaml: false });
        let table = Some(Output { form: Form::Table, yaml: false });
        for (accept, expected) in [
            ("application/json", whole),
            ("*/*", whole),
            ("application/vnd.kubernetes.protobuf,application/json", whole),
            ("application/json;stream=watch", whole),
            ("application/yaml", Some(Output { form: Form::Whole, yaml: true })),
            ("application/json;as=Table;v=v1;g=meta.k8s.io,application/json", table),
            ("application/json;as=Table;v=v1beta1;g=meta.k8s.io, application/json", whole),
            ("application/vnd.kubernetes.protobuf", None),
            ("text/html", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accept.parse().unwrap());
            assert_eq!(output(&headers).ok(), expected, "{accept}");
        }
    }

    #[test]
    fn yaml_as_kubectl_writes_it() {
        let yaml = b"a: 1\nb:\n- x: 'y'\n  n: null\nport: \"80\"\non: yes\nexp: 1e3\n";
        let (value, _) = from_yaml(yaml).unwrap();
        assert_eq!(value["b"][0]["x"], "y");
        assert_eq!(value["port"], "80");
        assert_eq!(value["a"], 1);
        assert!(from_yaml(b"a: [").is_err());
    }
}
