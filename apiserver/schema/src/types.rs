use std::borrow::Cow;

use serde_json::Value;

/// Names in the table live as long as the program; those of custom kinds are owned.
pub type Text = Cow<'static, str>;

/// A type's place in its [`Registry`](crate::Registry).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TypeId(pub(crate) u32);

/// One type of the API, such as `core.v1.PodSpec`.
#[derive(Debug)]
pub struct Type {
    /// The Go package and name, shortened: `core.v1.PodSpec`, `apis.meta.v1.ObjectMeta`.
    pub name: Text,
    /// How its JSON looks.
    pub form: Form,
    /// Server-side apply replaces the whole (`x-kubernetes-map-type: atomic`).
    pub atomic: bool,
    /// The (group, version, kind) triples that are made of this type; the core group is "".
    pub kinds: Vec<(Text, Text, Text)>,
    /// Sorted by name; only a [`Form::Struct`] has any.
    pub fields: Vec<Field>,
    pub(crate) defaults: Vec<crate::defaults::Rule>,
    pub(crate) hook: Option<crate::defaults::Hook>,
    /// Defaulting has something to do in here or below.
    pub(crate) defaulted: bool,
}

/// How the JSON of a type looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// An object with known fields.
    Struct,
    /// An object with any fields, kept as they are.
    Object,
    /// Any JSON, kept as it is.
    Any,
    /// A number or a string such as `100m`; kept as a string.
    Quantity,
    /// An int32 or a string.
    IntOrString,
    /// An RFC 3339 time in whole seconds.
    Time,
    /// An RFC 3339 time with microseconds.
    MicroTime,
}

/// One field of a [`Type`].
#[derive(Debug)]
pub struct Field {
    /// The JSON key.
    pub name: Text,
    /// What it holds.
    pub shape: Shape,
    /// The OpenAPI document lists it as required.
    pub required: bool,
    /// The default that the OpenAPI document states.
    pub default: Option<Box<Value>>,
    /// How changes of it merge, where that is not the plain way.
    pub merge: Option<Box<Merge>>,
}

/// How patches and server-side apply merge a list or a map.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Merge {
    /// How server-side apply merges a list; None for what is no list.
    pub list: Option<ListType>,
    /// Server-side apply replaces a map as a whole (`atomic`) or merges it by key (`granular`).
    pub map_type: Option<Text>,
    /// Strategic merge patch: `merge`, `replace`, `retainKeys`, or two joined by a comma.
    pub patch_strategy: Option<Text>,
    /// Strategic merge patch: the key by which the items of a list are told apart.
    pub patch_merge_key: Option<Text>,
}

/// The `x-kubernetes-list-type` of a list.
#[derive(Debug, PartialEq, Eq)]
pub enum ListType {
    /// Replaced as a whole.
    Atomic,
    /// Scalars, each at most once.
    Set,
    /// Objects that are told apart by these keys.
    Map(Vec<Text>),
}

/// What a field, an item or a map's value holds.
#[derive(Debug, PartialEq, Eq)]
pub enum Shape {
    /// A JSON string.
    String,
    /// A JSON string of base64.
    Bytes,
    /// A whole number of 32 bits.
    Int32,
    /// A whole number of 64 bits.
    Int64,
    /// A number.
    Double,
    /// true or false.
    Bool,
    /// Another type of the table.
    Type(TypeId),
    /// A JSON array.
    List(Box<Shape>),
    /// A JSON object with free keys.
    Map(Box<Shape>),
}

/// The shortened prefixes of table names, and the Go packages they stand for.
const PREFIXES: [(&str, &str); 4] = [
    ("apis.", "io.k8s.apimachinery.pkg.apis."),
    ("pkg.", "io.k8s.apimachinery.pkg."),
    ("ext.", "io.k8s.apiextensions-apiserver.pkg.apis."),
    ("agg.", "io.k8s.kube-aggregator.pkg.apis."),
];

impl Type {
    /// A type without fields, of no kind yet.
    pub fn new(name: impl Into<Text>, form: Form) -> Self {
        Self {
            name: name.into(),
            form,
            atomic: false,
            kinds: Vec::new(),
            fields: Vec::new(),
            defaults: Vec::new(),
            hook: None,
            defaulted: false,
        }
    }

    /// The field of that JSON name.
    pub fn field(&self, name: &str) -> Option<&Field> {
        let at = self.fields.binary_search_by(|field| field.name.as_ref().cmp(name)).ok()?;
        Some(&self.fields[at])
    }

    /// The name in OpenAPI documents: `io.k8s.api.core.v1.PodSpec`.
    pub fn openapi_name(&self) -> String {
        for (prefix, package) in PREFIXES {
            if let Some(rest) = self.name.strip_prefix(prefix) {
                return format!("{package}{rest}");
            }
        }
        format!("io.k8s.api.{}", self.name)
    }

    /// The bare Go name, as decoding errors have it: `PodSpec`.
    pub fn go_name(&self) -> &str {
        self.name.rsplit('.').next().unwrap_or(&self.name)
    }

    /// The Go name with its package, as decoding errors have it: `v1.PodSpec`.
    pub fn go_path(&self) -> &str {
        match self.name.rmatch_indices('.').nth(1) {
            Some((at, _)) => &self.name[at + 1..],
            None => &self.name,
        }
    }
}

impl Field {
    /// Whether strategic merge patch has that strategy (`merge`, `replace`) for it.
    pub fn has_strategy(&self, strategy: &str) -> bool {
        let all = self.merge.as_ref().and_then(|merge| merge.patch_strategy.as_deref());
        all.is_some_and(|all| all.split(',').any(|one| one == strategy))
    }

    /// The key by which strategic merge patch tells the items of a list apart.
    pub fn merge_key(&self) -> Option<&str> {
        self.merge.as_ref()?.patch_merge_key.as_deref()
    }
}
