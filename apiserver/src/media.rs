use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use schema::{Registry, TypeId};
use serde_json::Value;

use crate::query::Query;
use crate::status::Status;

mod protobuf;

/// How an answer is to look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Output {
    pub(crate) form: Form,
    pub(crate) format: Format,
    /// JSON in lines, for people.
    pub(crate) pretty: bool,
}

/// How the bytes of an answer are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Format {
    #[default]
    Json,
    Yaml,
    Protobuf,
}

/// What can be answered with.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Offer {
    /// The objects have messages.
    pub(crate) protobuf: bool,
    /// Documents of discovery, not objects.
    pub(crate) documents: bool,
    /// It is a stream of events.
    pub(crate) stream: bool,
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
}

/// The media type of server-side apply.
pub(crate) const APPLY: &str = "application/apply-patch+yaml";

const MEDIA: [(&str, Format); 3] =
    [("json", Format::Json), ("yaml", Format::Yaml), ("vnd.kubernetes.protobuf", Format::Protobuf)];

impl Format {
    /// As the content type of a stream of events, or of a single document.
    pub(crate) fn content_type(self, stream: bool) -> &'static str {
        match self {
            Format::Json => "application/json",
            Format::Yaml => "application/yaml",
            Format::Protobuf if stream => "application/vnd.kubernetes.protobuf;stream=watch",
            Format::Protobuf => "application/vnd.kubernetes.protobuf",
        }
    }
}

impl Offer {
    pub(crate) fn of(registry: &Registry, ty: TypeId, stream: bool) -> Self {
        Offer { protobuf: protobuf::has_message(registry, ty), documents: false, stream }
    }

    fn has(self, form: Form, format: Format) -> bool {
        (form == Form::Whole || !self.documents)
            && match format {
                Format::Json => true,
                Format::Yaml => !self.stream,
                Format::Protobuf => form == Form::Metadata || (self.protobuf && form == Form::Whole),
            }
    }

    fn refusal(self) -> Status {
        let end = if self.stream { ";stream=watch" } else { "" };
        let formats = MEDIA.iter().filter(|(_, format)| self.has(Form::Whole, *format));
        let accepted: Vec<String> = formats.map(|(name, _)| format!("application/{name}{end}")).collect();
        Status::not_acceptable(&accepted.join(", "))
    }
}

/// The accepted media types, best first, in the order of Kubernetes: by quality, then the more definite ones. None where
/// the client does not say.
pub(crate) fn accepted(headers: &HeaderMap) -> Vec<&str> {
    let accept = headers.get(header::ACCEPT).map_or(Ok(""), HeaderValue::to_str).unwrap_or("?");
    let mut ranges: Vec<&str> = accept.split(',').map(str::trim).collect();
    ranges.retain(|range| !range.is_empty());
    ranges.sort_by_key(|range| (-quality(range), range.starts_with('*'), range.contains("/*")));
    ranges
}

/// The best of the accepted media types that can be served.
pub(crate) fn output(headers: &HeaderMap, query: &Query, offer: Offer) -> Result<Output, Status> {
    let ranges = accepted(headers);
    let mut output = if ranges.is_empty() {
        Output::default()
    } else {
        ranges.into_iter().find_map(|range| serve(range, offer)).ok_or_else(|| offer.refusal())?
    };
    output.pretty = output.format == Format::Json && !offer.stream && is_pretty(headers, query);
    Ok(output)
}

/// How a Status is written for that client, whatever it asked for.
pub(crate) fn output_of_status(headers: &HeaderMap, query: &str) -> Output {
    let offer = Offer { protobuf: true, ..Offer::default() };
    let output = output(headers, &Query::parse(query), offer).unwrap_or_default();
    Output { form: Form::Whole, ..output }
}

/// The quality of a range, in thousandths.
fn quality(range: &str) -> i32 {
    let value = range.split(';').skip(1).find_map(|piece| piece.trim().strip_prefix("q="));
    value.and_then(|value| value.parse::<f32>().ok()).map_or(1000, |quality| (quality * 1000.0) as i32)
}

fn serve(range: &str, offer: Offer) -> Option<Output> {
    let mut pieces = range.split(';').map(str::trim);
    let media = pieces.next()?.to_ascii_lowercase();
    let (mut kind, mut group, mut version) = ("", "", "");
    for piece in pieces {
        match piece.split_once('=').unwrap_or((piece, "")) {
            ("as", value) => kind = value,
            ("g", value) => group = value,
            ("v", value) => version = value,
            ("stream", value) if !offer.stream || value != "watch" => return None,
            _ => {}
        }
    }
    let form = match (kind, group, version) {
        ("", _, _) => Form::Whole,
        ("Table", "meta.k8s.io", "v1") => Form::Table,
        ("PartialObjectMetadata" | "PartialObjectMetadataList", "meta.k8s.io", "v1") => Form::Metadata,
        _ => return None,
    };
    let named = |name: &str| media.strip_prefix("application/").is_some_and(|sub| sub == name || sub == "*");
    let mut formats = MEDIA.iter().filter(|(name, _)| media == "*/*" || named(name)).map(|(_, format)| *format);
    let format = formats.find(|format| offer.has(form, *format))?;
    Some(Output { form, format, pretty: false })
}

/// Asked for, or else for browsers and the like.
fn is_pretty(headers: &HeaderMap, query: &Query) -> bool {
    query.bool("pretty").unwrap_or_else(|| {
        let agent = headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
        ["curl", "Wget", "Mozilla/5.0"].iter().any(|people| agent.starts_with(people))
    })
}

/// Writes a document that is JSON as the output has it.
pub(crate) fn encode(registry: &Registry, output: Output, json: Bytes) -> Result<Bytes, Status> {
    let value = || serde_json::from_slice::<Value>(&json).map_err(|error| Status::internal(error.to_string()));
    match output.format {
        Format::Json if !output.pretty => Ok(json),
        Format::Json => Ok(serde_json::to_vec_pretty(&value()?).unwrap_or_default().into()),
        Format::Yaml => {
            let text = serde_saphyr::to_string(&value()?);
            text.map(Bytes::from).map_err(|error| Status::internal(error.to_string()))
        }
        Format::Protobuf => Ok(protobuf::encode(registry, &value()?)?.into()),
    }
}

/// A list in protobuf, in pieces. Its version and kind; its items are read one after the other.
pub(crate) fn protobuf_list(
    registry: &Registry,
    kind: [&str; 2],
    metadata: Value,
    items: impl Iterator<Item = Result<Value, Status>>,
) -> Result<Vec<Bytes>, Status> {
    protobuf::list(registry, kind, metadata, items)
}

/// An event of a watch around an object that is JSON: a line, or a frame of protobuf.
pub(crate) fn event(registry: &Registry, output: Output, told: &str, json: Bytes) -> Result<Bytes, Status> {
    if output.format == Format::Protobuf {
        return Ok(protobuf::frame(told, &encode(registry, output, json)?).into());
    }
    let parts: [&[u8]; 5] = [br#"{"type":""#, told.as_bytes(), br#"","object":"#, &json, b"}\n"];
    Ok(parts.concat().into())
}

impl From<String> for Status {
    /// An object that does not fit its message.
    fn from(failure: String) -> Self {
        Status::internal(failure)
    }
}

/// Reads a body, JSON unless its content type says otherwise; and the keys that it has twice.
pub(crate) fn decode(registry: &Registry, headers: &HeaderMap, bytes: &[u8]) -> Result<(Value, Vec<String>), Status> {
    match content_type(headers) {
        "" | "application/json" => from_json(bytes),
        "application/yaml" => from_yaml(bytes),
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

const INPUTS: &str = "application/json, application/yaml, application/vnd.kubernetes.protobuf";

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
        let of = |form, format| Some(Output { form, format, pretty: false });
        let (json, yaml, protobuf) =
            (of(Form::Whole, Format::Json), of(Form::Whole, Format::Yaml), of(Form::Whole, Format::Protobuf));
        let builtin = Offer { protobuf: true, ..Offer::default() };
        let added = Offer::default();
        let watch = Offer { stream: true, ..builtin };
        for (offer, accept, expected) in [
            (builtin, "", json),
            (builtin, "application/json", json),
            (builtin, "application/json;charset=utf-8", json),
            (builtin, "*/*", json),
            (builtin, "application/*", json),
            (builtin, "application/vnd.kubernetes.protobuf,application/json", protobuf),
            (builtin, "application/json;q=0.5, application/yaml;q=0.8, text/html", yaml),
            (builtin, "*/*, application/yaml", yaml),
            (builtin, "application/json;stream=watch", None),
            (builtin, "application/json;as=Table;v=v1;g=meta.k8s.io,application/json", of(Form::Table, Format::Json)),
            (builtin, "application/json;as=Table;v=v1beta1;g=meta.k8s.io, application/json", json),
            (builtin, "application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io", None),
            (builtin, "text/html", None),
            (added, "application/vnd.kubernetes.protobuf,application/json", json),
            (added, "application/vnd.kubernetes.protobuf", None),
            (
                added,
                "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
                of(Form::Metadata, Format::Protobuf),
            ),
            (watch, "application/json;stream=watch", json),
            (watch, "application/vnd.kubernetes.protobuf;stream=watch", protobuf),
            (watch, "application/yaml", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accept.parse().unwrap());
            assert_eq!(output(&headers, &Query::default(), offer).ok(), expected, "{accept}");
        }
    }

    #[test]
    fn pretty_for_people() {
        for (query, agent, pretty) in [
            ("", "kubectl/v1.36", false),
            ("pretty=true", "", true),
            ("pretty=false", "curl/8", false),
            ("", "curl/8", true),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::USER_AGENT, agent.parse().unwrap());
            let output = output(&headers, &Query::parse(query), Offer::default()).unwrap();
            assert_eq!(output.pretty, pretty, "{query} {agent}");
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
