//! `canary` and `canary-*`.

use std::sync::Arc;

use http::HeaderName;
use regex::bytes::Regex;

use super::Complaint;
use crate::{Canary, Upstream};

/// What is said of the canary so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Draft {
    pub(super) enabled: bool,
    pub(super) header: Option<HeaderName>,
    pub(super) value: Option<Box<str>>,
    pub(super) pattern: Option<Regex>,
    pub(super) cookie: Option<Box<str>>,
    pub(super) weight: Option<u32>,
    pub(super) total: Option<u32>,
}

impl Draft {
    /// Says so where a part of it has no effect.
    pub(super) fn check(&self, complaints: &mut Vec<Complaint>) {
        let chosen = self.header.is_some() || self.cookie.is_some() || self.weight.is_some();
        let mut complain = |text: &str| complaints.push(("InvalidAnnotation", text.to_owned()));
        if !self.enabled && (chosen || self.value.is_some() || self.pattern.is_some()) {
            complain("the canary-* annotations have no effect without canary: \"true\"");
        } else if self.header.is_none() && (self.value.is_some() || self.pattern.is_some()) {
            complain("canary-by-header-value and canary-by-header-pattern have no effect without canary-by-header");
        } else if self.enabled && !chosen {
            complain("no request goes to this canary: it has no header, no cookie and no weight");
        }
    }

    pub(super) fn with(self, backend: Arc<Upstream>) -> Canary {
        let total = self.total.unwrap_or(100).max(1);
        Canary {
            header: self.header,
            header_pattern: self.pattern.filter(|_| self.value.is_none()),
            header_value: self.value,
            cookie: self.cookie,
            weight: self.weight.unwrap_or(0).min(total),
            total,
            backend,
        }
    }
}
