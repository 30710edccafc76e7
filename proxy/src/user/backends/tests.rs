use state::Protocol;

use super::*;
use crate::user::Config;

const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

fn endpoint(i: u16) -> SocketAddr {
    SocketAddr::from(([10, 244, 0, 2], 8000 + i))
}

/// The choice among so many endpoints, with affinity for so many seconds.
fn choice(count: u16, affinity: Option<u64>) -> (watch::Sender<Arc<Backends>>, Arc<Choice>) {
    let frontend = Frontend { protocol: Protocol::Tcp, at: endpoint(0) };
    let (sender, receiver) = watch::channel(backends(0..count, affinity));
    (sender, Choice::new(frontend, receiver, Shared::new(Config::local("node"))))
}

fn backends(endpoints: std::ops::Range<u16>, affinity: Option<u64>) -> Arc<Backends> {
    Arc::new(Backends {
        service: Key::new("default", "web"),
        endpoints: endpoints.map(endpoint).collect(),
        affinity: affinity.map(Duration::from_secs),
        source_ranges: Vec::new(),
    })
}

/// The numbers of the endpoints that a client tries.
fn tried(choice: &Choice, now: Instant) -> Vec<u16> {
    choice.order(CLIENT, now).iter().map(|endpoint| endpoint.port() - 8000).collect()
}

#[test]
fn each_has_its_turn_and_some_after_it_are_tried() {
    let (sender, choice) = choice(7, None);
    let now = Instant::now();
    let firsts: Vec<u16> = (0..70).map(|_| tried(&choice, now)[0]).collect();
    assert!((0..7).all(|i| firsts.iter().filter(|first| **first == i).count() == 10));
    assert_eq!(tried(&choice, now), [0, 1, 2, 3, 4]);
    (0..4).for_each(|_| drop(tried(&choice, now)));
    assert_eq!(tried(&choice, now), [5, 6, 0, 1, 2]);
    sender.send_replace(backends(0..1, None));
    assert_eq!(tried(&choice, now), [0]);
}

#[test]
fn who_refused_lately_is_tried_last() {
    let (_sender, choice) = choice(3, None);
    let mut now = Instant::now();
    choice.refused(endpoint(1), &io::ErrorKind::ConnectionRefused.into(), now);
    let orders: Vec<Vec<u16>> = (0..3).map(|_| tried(&choice, now)).collect();
    assert_eq!(orders, [[0, 2, 1], [2, 0, 1], [2, 0, 1]]);
    now += Duration::from_secs(5);
    let orders: Vec<Vec<u16>> = (0..3).map(|_| tried(&choice, now)).collect();
    assert_eq!(orders, [[0, 1, 2], [1, 2, 0], [2, 0, 1]]);
}

#[test]
fn a_client_stays_until_it_was_silent_or_its_endpoint_is_gone_or_refuses() {
    let (sender, choice) = choice(3, Some(10));
    let mut now = Instant::now();
    choice.taken(CLIENT, endpoint(1), now);
    for _ in 0..5 {
        now += Duration::from_secs(9);
        assert_eq!(tried(&choice, now), [1, 2, 0]);
        choice.taken(CLIENT, endpoint(1), now);
    }
    now += Duration::from_secs(10);
    assert_eq!(tried(&choice, now)[0], 0);
    choice.taken(CLIENT, endpoint(2), now);
    sender.send_replace(backends(0..2, Some(10)));
    assert_eq!(tried(&choice, now)[0], 1);
    choice.taken(CLIENT, endpoint(1), now);
    choice.refused(endpoint(1), &io::ErrorKind::ConnectionRefused.into(), now);
    assert_eq!(tried(&choice, now), [0, 1]);
}
