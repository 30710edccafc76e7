//! Whether the cluster's ranges are free on this machine.

use crate::Error;
use ipnet::Ipv4Net;

/// Something of the machine that has a range of addresses.
#[derive(Clone, Debug)]
pub(super) struct Used {
    /// Its range.
    pub(super) range: Ipv4Net,
    /// What it is, for people: `route 10.0.0.0/8 dev eth1`.
    pub(super) what: String,
}

/// Fails when a range of the cluster meets one that is in use. A default route meets nothing.
pub(super) fn check(service: Ipv4Net, pod: Ipv4Net, used: &[Used]) -> Result<(), Error> {
    let meets = |a: Ipv4Net, b: Ipv4Net| a.contains(&b) || b.contains(&a);
    if meets(service, pod) {
        return Err(Error::Overlap {
            what: "service",
            range: service,
            with: format!("the pod range {pod}"),
            flag: "--service-cidr",
        });
    }
    for (what, range, flag) in [("service", service, "--service-cidr"), ("pod", pod, "--pod-cidr")] {
        let taken = used.iter().find(|used| used.range.prefix_len() > 0 && meets(range, used.range));
        if let Some(taken) = taken {
            return Err(Error::Overlap { what, range, with: taken.what.clone(), flag });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlaps_are_named() {
        let check = |used: &str| {
            let used = Used { range: used.parse().unwrap(), what: format!("route {used} dev eth1") };
            check("10.96.0.0/12".parse().unwrap(), "10.244.0.0/16".parse().unwrap(), &[used])
                .map_err(|error| error.to_string())
        };
        for free in ["0.0.0.0/0", "192.168.1.0/24", "172.17.0.0/16", "10.0.0.0/11"] {
            assert_eq!(check(free), Ok(()), "{free}");
        }
        assert_eq!(
            check("10.100.0.0/16").unwrap_err(),
            "service range 10.96.0.0/12 overlaps route 10.100.0.0/16 dev eth1: \
             choose another with --service-cidr"
        );
        assert!(check("10.0.0.0/8").unwrap_err().starts_with("service"));
        assert!(check("10.244.9.7/32").unwrap_err().contains("--pod-cidr"));
    }

    #[test]
    fn the_two_ranges_may_not_meet() {
        let range = "10.0.0.0/8".parse().unwrap();
        let error = check(range, "10.244.0.0/16".parse().unwrap(), &[]).unwrap_err();
        assert!(error.to_string().contains("the pod range 10.244.0.0/16"));
    }
}
