//! Where clients are let in, by whom, and until when.

use super::*;

/// Connects from an address to another: who answers?
async fn ask(from: [u8; 4], to: SocketAddr) -> io::Result<String> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((from, 0).into())?;
    let mut stream = socket.connect(to).await?;
    stream.shutdown().await?;
    let mut answer = String::new();
    tokio::time::timeout(DEADLINE, stream.read_to_string(&mut answer)).await??;
    Ok(answer)
}

#[tokio::test]
async fn service_addresses_that_are_of_this_machine_are_open_to_those_who_may() {
    let mut lab = Lab::new(|config| config.service_addresses = true).await;
    lab.serve("127.0.0.2").await;
    let (ports, port) = ([(Protocol::Tcp, lab.at.port(), None)], lab.at.port());
    lab.cluster.service_with("web", "127.96.0.1", &ports, |service| {
        service.external_ips = vec![[192, 0, 2, 77].into(), [127, 96, 0, 2].into()];
        service.load_balancer_ips = vec![[127, 96, 0, 3].into()];
        service.source_ranges = vec!["127.0.0.128/25".parse().expect("a range")];
    });
    lab.cluster.endpoints("web", &ports, lab.target, &["127.0.0.2"]);
    lab.send();
    for (to, from, may) in [(1, 7, true), (2, 7, true), (3, 129, true), (3, 7, false)] {
        let to = SocketAddr::from(([127, 96, 0, to], port));
        if may {
            assert_eq!(eventually(|| async { ask([127, 0, 0, from], to).await.ok() }).await, "127.0.0.2");
            continue;
        }
        let error = ask([127, 0, 0, from], to).await.expect_err("a reset");
        // It may come before the client's own end.
        let resets = [io::ErrorKind::ConnectionReset, io::ErrorKind::NotConnected];
        assert!(resets.contains(&error.kind()), "{error}");
    }
    lab.stop().await;
}

#[tokio::test]
async fn ports_are_bounded() {
    let mut lab = Lab::new(|config| config.max_ports = 1).await;
    lab.serve("127.0.0.2").await;
    lab.endpoints(&["127.0.0.2"]);
    lab.connect().await;
    let socket = client(&lab).await;
    socket.send(b"who?").await.expect("sent");
    assert_eq!(socket.recv(&mut [0; 9]).await.expect_err("closed").kind(), io::ErrorKind::ConnectionRefused);
    lab.stop().await;
}

#[tokio::test]
async fn node_ports_are_open_on_localhost_of_ipv6() {
    let here = IpAddr::from(std::net::Ipv6Addr::LOCALHOST);
    let mut lab = Lab::new(|config| config.addresses.push(here)).await;
    let endpoint = TcpListener::bind((here, lab.target)).await.expect("IPv6 on the loopback device");
    let ports = lab.ports;
    lab.cluster.service("web", "fd96::1", &ports);
    lab.endpoints(&["::1"]);
    let at = SocketAddr::new(here, lab.at.port());
    let mut client = eventually(|| async { TcpStream::connect(at).await.ok() }).await;
    let (mut server, _) = endpoint.accept().await.expect("a connection");
    server.write_all(b"127.0.0.6").await.expect("sent");
    assert_eq!(first(&mut client).await, "127.0.0.6");
    drop((client, server));
    lab.stop().await;
}

#[tokio::test]
async fn threads_share_ports_and_what_is_known_of_clients() {
    let mut lab = Lab::new(|_| {}).await;
    for address in ["127.0.0.2", "127.0.0.3"] {
        lab.serve(address).await;
    }
    let ports = lab.ports;
    lab.cluster.service_with("web", "10.96.0.1", &ports, |service| service.affinity = Some(10));
    lab.cluster.endpoints("web", &ports, lab.target, &["127.0.0.2", "127.0.0.3"]);
    let (_sender, snapshots) = watch::channel(lab.cluster.snapshot());
    let shutdown = CancellationToken::new();
    let relays = Relays::new(Config::local("node").reuse_port());
    let running = tokio::spawn(relays.run_on(2, snapshots, shutdown.clone()));
    let one = eventually(|| async { lab.ask().await.ok() }).await;
    for _ in 0..30 {
        assert_eq!(lab.ask().await.expect("an answer"), one);
    }
    shutdown.cancel();
    tokio::time::timeout(DEADLINE, running).await.expect("in time").expect("no panic").expect("threads");
    assert_eq!(lab.ask().await.expect_err("closed").kind(), io::ErrorKind::ConnectionRefused);
    lab.stop().await;
}

#[tokio::test]
async fn an_upgrade_loses_no_connection() {
    let upgradable = |config: &mut Config| {
        *config = config.clone().reuse_port();
        config.grace = DEADLINE;
    };
    let mut old = Lab::new(upgradable).await;
    old.serve("127.0.0.2").await;
    old.serve("127.0.0.3").await;
    old.endpoints(&["127.0.0.2"]);
    let mut long = old.connect().await;
    first(&mut long).await;
    let at = old.at;
    let stop = CancellationToken::new();
    let clients: Vec<JoinHandle<usize>> = (0..4).map(|_| tokio::spawn(hammer(at, stop.clone()))).collect();
    let mut new = Lab::new(upgradable).await;
    (new.ports, new.at) = (old.ports, at);
    new.target = old.target;
    let ports = new.ports;
    new.cluster.service("web", "10.96.0.1", &ports);
    new.endpoints(&["127.0.0.3"]);
    eventually(|| async { new.ask().await.ok().filter(|answer| answer == "127.0.0.3") }).await;
    old.shutdown.cancel();
    // Until only the new one has the port.
    eventually(|| async {
        for _ in 0..30 {
            new.ask().await.ok().filter(|answer| answer == "127.0.0.3")?;
        }
        Some(())
    })
    .await;
    stop.cancel();
    for client in clients {
        assert!(client.await.expect("no failure") > 0);
    }
    long.write_all(b"still here").await.expect("sent");
    long.shutdown().await.expect("an end");
    let mut answer = String::new();
    long.read_to_string(&mut answer).await.expect("an answer");
    assert_eq!(answer, "still here");
    old.stop().await;
    new.stop().await;
}

/// Connects again and again; panics when it gets no answer.
async fn hammer(at: SocketAddr, stop: CancellationToken) -> usize {
    let mut count = 0;
    while !stop.is_cancelled() {
        ask([127, 0, 0, 1], at).await.expect("an answer");
        count += 1;
    }
    count
}
