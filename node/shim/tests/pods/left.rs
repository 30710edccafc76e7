//! What is left after the worst: nothing.

use crate::fixture::{Pod, cgroups, in_time, lives, pod_test, until};
use shim::{Client, Error};
use std::{fs, time::Instant};

#[test]
fn containers_die_with_their_shim() {
    pod_test(|| async {
        let pod = Pod::new().await;
        let one = pod.client.start(&pod.container("one", "sleep")).await.unwrap();
        let two = pod.client.start(&pod.container("two", "sleep")).await.unwrap();
        let mut exits = pod.client.exits().await.unwrap();
        let shim = rustix::process::Pid::from_raw(pod.client.pid() as i32).unwrap();
        rustix::process::kill_process(shim, rustix::process::Signal::KILL).unwrap();
        assert!(matches!(in_time(exits.next()).await, Err(Error::Gone(_))));
        until("all processes end", || ![one.pid, two.pid, pod.client.pid()].into_iter().any(lives)).await;
        assert!(matches!(Client::connect(&pod.sandbox.dir).await, Err(Error::Gone(_))));
        pod.client.shutdown().await.unwrap();
        let left = shim::last_states(&pod.sandbox.dir).unwrap();
        assert!(left.len() == 2 && left.iter().all(|state| state.exit.is_none()));
        shim::clear(&pod.sandbox.dir).unwrap();
        pod.nothing_left();
    });
}

#[test]
fn an_idle_shim_is_small() {
    pod_test(|| async {
        let pod = Pod::new().await;
        pod.client.start(&pod.container("web", "sleep")).await.unwrap();
        pod.printed("web", "ready").await;
        let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", pod.client.pid())).unwrap();
        let kib = |name: &str| {
            let line = rollup.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse::<u32>().unwrap()
        };
        println!("shim: rss {} KiB, pss {} KiB, private dirty {} KiB", kib("Rss:"), kib("Pss:"), kib("Private_Dirty:"));
        assert!(kib("Private_Dirty:") < 1024, "{rollup}");
        pod.finish().await;
    });
}

#[test]
fn three_hundred_starts() {
    pod_test(|| async {
        let pod = Pod::new().await;
        let container = pod.container("again", "exit 1");
        let mut exits = pod.client.exits().await.unwrap();
        let begin = Instant::now();
        for _ in 0..300 {
            pod.client.start(&container).await.unwrap();
            assert_eq!(in_time(exits.next()).await.unwrap().exit.unwrap().code, 1);
            pod.client.remove("again").await.unwrap();
        }
        println!("300 starts: {:?} each", begin.elapsed() / 300);
        let fds = fs::read_dir(format!("/proc/{}/fd", pod.client.pid())).unwrap().count();
        assert!(fds < 16, "the shim has {fds} descriptors open");
        assert!(cgroups(&pod.sandbox).iter().all(|dir| !dir.join("again").exists()));
        pod.finish().await;
    });
}
