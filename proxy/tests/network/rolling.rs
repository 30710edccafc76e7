//! Traffic goes on while endpoints, the program and other Services come and go.

use std::net::{TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use proxy::kernel::{Config, Plane};
use state::{Endpoint, Snapshot};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::cluster::*;
use crate::lab::*;

/// How often a connection that is kept alive is used.
const KEPT: usize = 20;
/// What a client waits between two requests.
const PAUSE: Duration = Duration::from_millis(1);

/// Clients that ask until they are stopped; none of them takes a failure.
struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<Client>,
}

struct Client {
    name: String,
    /// Connections, or datagrams, that were answered.
    done: Arc<AtomicUsize>,
    thread: JoinHandle<()>,
}

impl Load {
    /// From a pod, the node and outside, over TCP (a connection for a request, or for some) and UDP.
    fn start(net: &Net) -> Load {
        let mut load = Load { stop: Arc::default(), clients: Vec::new() };
        for (from, to) in [("pod2", net.service()), ("node", net.service()), ("outside", net.node_port())] {
            load.tcp(from, &to, 1);
            load.tcp(from, &to, KEPT);
            load.udp(from, &to);
        }
        load
    }

    fn tcp(&mut self, from: &'static str, to: &str, requests: usize) {
        let to: std::net::SocketAddr = to.parse().expect("an address and port");
        self.client(format!("TCP {from} → {to}, {requests} requests each"), from, move || {
            let mut stream = TcpStream::connect_timeout(&to, DEADLINE)?;
            stream.set_read_timeout(Some(DEADLINE))?;
            for _ in 0..requests {
                say(&mut stream)?;
                std::thread::sleep(PAUSE);
            }
            Ok(())
        });
    }

    /// All datagrams from one port. One that is on its way while its endpoint goes may be lost, but no second one.
    fn udp(&mut self, from: &'static str, to: &str) {
        let socket: UdpSocket = udp_socket(from, to);
        socket.set_read_timeout(Some(DEADLINE / 5)).expect("a timeout");
        self.client(format!("UDP {from} → {to}"), from, move || {
            say_udp(&socket).or_else(|_| say_udp(&socket)).map(|_| ())
        });
    }

    fn client(&mut self, name: String, from: &'static str, ask: impl Fn() -> std::io::Result<()> + Send + 'static) {
        let (stop, done) = (self.stop.clone(), Arc::<AtomicUsize>::default());
        let count = done.clone();
        let thread = std::thread::spawn(move || {
            enter(from);
            while !stop.load(Relaxed) {
                ask().unwrap_or_else(|error| panic!("failed after {}: {error}", count.load(Relaxed)));
                count.fetch_add(1, Relaxed);
                std::thread::sleep(PAUSE);
            }
        });
        self.clients.push(Client { name, done, thread });
    }

    /// Waits until each client has ended a connection that it began after now.
    fn settle(&self) {
        let counts: Vec<usize> = self.clients.iter().map(|client| client.done.load(Relaxed)).collect();
        for (client, count) in self.clients.iter().zip(counts) {
            let on = || client.thread.is_finished() || client.done.load(Relaxed) >= count + 2;
            wait(&client.name, on);
            assert!(!client.thread.is_finished(), "{} failed", client.name);
        }
    }

    fn end(self) {
        self.stop.store(true, Relaxed);
        for client in self.clients {
            assert!(client.thread.join().is_ok(), "{} failed", client.name);
        }
    }
}

#[test]
fn pods_are_replaced_one_by_one() {
    both("rolling::pods_are_replaced_one_by_one", |net| {
        let mut cluster = web(net);
        let mut plane = plane();
        let mut set = |cluster: &mut Cluster, endpoints: &[Endpoint]| {
            cluster.endpoints_with("web", &WEB, 8080, endpoints.to_vec());
            plane.apply(cluster.snapshot()).expect("apply");
        };
        // The third pod is a client.
        let mut old = endpoint(net.pods[0]);
        set(&mut cluster, std::slice::from_ref(&old));
        let load = Load::start(net);
        for round in 0..6 {
            let fresh = endpoint(net.pods[(round + 1) % 2]);
            set(&mut cluster, &[old.clone(), fresh.clone()]);
            load.settle();
            let leaving = Endpoint { ready: false, terminating: true, ..old };
            set(&mut cluster, &[leaving, fresh.clone()]);
            load.settle();
            set(&mut cluster, std::slice::from_ref(&fresh));
            load.settle();
            // Whoever still went there would notice.
            let (pod, node) = (net.pods[round % 2], net.node);
            run(&format!("ip route replace blackhole {pod}"));
            load.settle();
            run(&format!("ip route replace {pod} dev veth{} src {node}", round % 2));
            old = fresh;
        }
        load.end();
    });
}

#[test]
fn the_program_is_restarted_and_killed() {
    both("rolling::the_program_is_restarted_and_killed", |net| {
        let cluster = web(net);
        let open = || Plane::open(Config { keep: true, ..config() }).expect("a data plane");
        let mut plane = open();
        plane.apply(cluster.snapshot()).expect("apply");
        let load = Load::start(net);
        for _ in 0..5 {
            // As when it is killed: nothing is put in order.
            drop(plane);
            load.settle();
            // As when it is told to end.
            run_once(open(), cluster.snapshot());
            load.settle();
            plane = open();
            plane.apply(cluster.snapshot()).expect("apply");
        }
        load.end();
    });
}

/// A process's life: it follows one Snapshot, and is told to end.
fn run_once(plane: Plane, snapshot: Arc<Snapshot>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let shutdown = CancellationToken::new();
    let (sender, receiver) = watch::channel(snapshot);
    runtime.block_on(async {
        let stop = shutdown.clone();
        let running = tokio::spawn(plane.run(receiver, shutdown));
        tokio::task::yield_now().await;
        stop.cancel();
        running.await.expect("no panic").expect("a clean end");
    });
    drop(sender);
}

#[test]
fn other_services_come_and_go() {
    both("rolling::other_services_come_and_go", |net| {
        let mut cluster = web(net);
        let mut plane = plane();
        plane.apply(cluster.snapshot()).expect("apply");
        let load = Load::start(net);
        for i in 0..1000 {
            let (name, ports) = (format!("other-{i}"), &[(WEB[0].0, 80, None), (WEB[1].0, 80, None)]);
            let range = if net.family == "4" { "10.97." } else { "fd00:96::" };
            let separator = &range[range.len() - 1..];
            cluster.service(&name, &format!("{range}{}{separator}{}", 1 + i / 250, i % 250), ports);
            cluster.endpoints(&name, ports, 8080, &net.pods[..i % 4]);
            if i % 100 == 0 {
                plane.apply(cluster.snapshot()).expect("apply");
            }
        }
        load.settle();
        for i in 0..1000 {
            cluster.remove(&format!("other-{i}"));
            if i % 100 == 0 {
                plane.apply(cluster.snapshot()).expect("apply");
            }
        }
        plane.apply(cluster.snapshot()).expect("apply");
        load.settle();
        load.end();
    });
}
