//! What a certificate says.

use std::net::IpAddr;

use rcgen::{CertificateParams, DnValue};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// What is read of a certificate.
pub(super) struct Seen {
    /// DNS names and addresses, sorted.
    pub(super) names: Vec<String>,
    /// The common name and the organisations.
    pub(super) subject: (String, Vec<String>),
    /// Seconds since 1970.
    end: i64,
}

impl Seen {
    pub(super) fn days_left(&self, now: jiff::Timestamp) -> i64 {
        (self.end - now.as_second()) / 86_400
    }
}

pub(super) fn read_pem(pem: &str) -> Option<Seen> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).ok()?;
    read_der(&pem.contents)
}

pub(super) fn read_der(der: &[u8]) -> Option<Seen> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let alternatives = certificate.subject_alternative_name().ok()?;
    let names = alternatives.iter().flat_map(|names| &names.value.general_names);
    let mut names: Vec<String> = names.filter_map(name).collect();
    names.sort();
    let subject = certificate.subject();
    let user = subject.iter_common_name().next().and_then(|name| name.as_str().ok());
    let groups = subject.iter_organization().filter_map(|group| group.as_str().ok());
    Some(Seen {
        names,
        subject: (user.unwrap_or_default().to_owned(), groups.map(str::to_owned).collect()),
        end: certificate.validity().not_after.timestamp(),
    })
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => {
            let four: Option<[u8; 4]> = (*bytes).try_into().ok();
            let sixteen: Option<[u8; 16]> = (*bytes).try_into().ok();
            four.map(IpAddr::from).or(sixteen.map(IpAddr::from)).map(|address| address.to_string())
        }
        _ => None,
    }
}

/// The text of a name that this crate has made.
pub(super) fn text(value: &DnValue) -> Option<String> {
    match value {
        DnValue::Utf8String(text) => Some(text.clone()),
        _ => None,
    }
}

/// Valid from yesterday, for clocks that are behind, for so many days.
pub(super) fn set_validity(params: &mut CertificateParams, now: jiff::Timestamp, days: i32) {
    let day = |offset: i32| {
        let date = now.to_zoned(jiff::tz::TimeZone::UTC).date();
        let date = date.saturating_add(jiff::Span::new().days(offset));
        rcgen::date_time_ymd(date.year().into(), date.month().unsigned_abs(), date.day().unsigned_abs())
    };
    params.not_before = day(-1);
    params.not_after = day(days);
}
