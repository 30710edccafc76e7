use std::fmt::{self, Display, Formatter};

/// The way to a value, kept on the stack and written only when there is something to say.
#[derive(Clone, Copy)]
pub(crate) enum Path<'a> {
    Root,
    Field(&'a Path<'a>, &'a str),
    Item(&'a Path<'a>, usize),
    Key(&'a Path<'a>, &'a str),
}

impl<'a> Path<'a> {
    pub(crate) fn field(&'a self, name: &'a str) -> Path<'a> {
        Path::Field(self, name)
    }

    pub(crate) fn item(&'a self, at: usize) -> Path<'a> {
        Path::Item(self, at)
    }

    pub(crate) fn key(&'a self, key: &'a str) -> Path<'a> {
        Path::Key(self, key)
    }

    /// As Go's JSON decoder has it: without the indices of lists.
    pub(crate) fn fields(&self) -> String {
        match self {
            Path::Root => String::new(),
            Path::Field(parent, name) => match parent.fields() {
                before if before.is_empty() => (*name).to_owned(),
                before => format!("{before}.{name}"),
            },
            Path::Item(parent, _) | Path::Key(parent, _) => parent.fields(),
        }
    }
}

impl Display for Path<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Path::Root => Ok(()),
            Path::Field(Path::Root, name) => f.write_str(name),
            Path::Field(parent, name) => write!(f, "{parent}.{name}"),
            Path::Item(parent, at) => write!(f, "{parent}[{at}]"),
            Path::Key(parent, key) => write!(f, "{parent}[{key}]"),
        }
    }
}
