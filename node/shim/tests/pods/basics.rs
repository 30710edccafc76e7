//! Starting, ending, adopting.

use crate::fixture::{Pod, exe, in_time, lives, pod_test, run_isolated, single_id, until};
use shim::{Client, Error, Exec, Limits, Mount, Sandbox, Tmpfs};
use std::fs;

/// Everything again in a user namespace where only root is mapped.
#[test]
fn in_a_user_namespace_of_one_id() {
    if !single_id() {
        run_isolated(&["--skip", "in_a_user_namespace_of_one_id", "--test-threads", "2"]);
    }
}

#[test]
fn a_container_runs_and_ends() {
    pod_test(|| async {
        let pod = Pod::new().await;
        let mut web = pod.container("web", "say hello + cat /proc/sys/kernel/hostname + cwd + env A + exit 7");
        web.program.cwd = "/srv/app".into();
        web.program.env.push("A=b".into());
        let (state, output) = pod.run(&web).await;
        assert_eq!(output, "hello\npod-1\n/srv/app\nb\n");
        let exit = state.exit.unwrap();
        assert_eq!((exit.code, exit.signal, exit.oom), (7, None, false));
        assert!(state.started > 0 && exit.finished >= state.started);
        let taken = pod.client.start(&web).await.unwrap_err().to_string();
        assert_eq!(taken, "there is a container \"web\" already");
        pod.client.remove("web").await.unwrap();
        assert_eq!(pod.client.states().await.unwrap(), []);
        pod.finish().await;
    });
}

#[test]
fn signals_end_containers() {
    pod_test(|| async {
        let pod = Pod::new().await;
        let mut exits = pod.client.exits().await.unwrap();
        let state = pod.client.start(&pod.container("term", "wait-for-term")).await.unwrap();
        assert!(lives(state.pid));
        pod.printed("term", "ready").await;
        let running = pod.client.remove("term").await.unwrap_err().to_string();
        assert_eq!(running, "container \"term\" is running");
        pod.client.signal("term", 15).await.unwrap();
        assert_eq!(in_time(exits.next()).await.unwrap().exit.unwrap().code, 42);
        pod.client.signal("term", 9).await.unwrap();
        let state = pod.client.start(&pod.container("kill", "sleep")).await.unwrap();
        // As a person would from outside.
        let pid = rustix::process::Pid::from_raw(state.pid as i32).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        let exit = in_time(exits.next()).await.unwrap().exit.unwrap();
        assert_eq!((exit.code, exit.signal), (137, Some(9)));
        pod.finish().await;
    });
}

#[test]
fn a_start_that_fails_says_why_and_leaves_nothing() {
    pod_test(|| async {
        let pod = Pod::new().await;
        let program = |args: &[&str]| {
            let mut container = pod.container("bad", "");
            container.program.args = args.iter().map(|arg| (*arg).to_owned()).collect();
            container
        };
        let mut mounted = pod.container("bad", "exit 0");
        mounted.mounts = vec![Mount { source: "/no/such".into(), target: "/a".into(), read_only: false }];
        let mut layerless = pod.container("bad", "exit 0");
        layerless.root.lower = vec!["/no/layer".into()];
        let mut named = pod.container("bad", "exit 0");
        named.name = "../x".into();
        let mut able = pod.container("bad", "exit 0");
        able.program.capabilities.add = vec!["FLY".into()];
        let table = [
            (program(&["foo"]), "unable to start container process: exec: \"foo\": executable file not found in $PATH"),
            (
                program(&["/no/foo"]),
                "unable to start container process: exec: \"/no/foo\": stat /no/foo: no such file or directory",
            ),
            (program(&["/proc"]), "unable to start container process: exec: \"/proc\": is a directory"),
            (program(&["/etc/plain"]), "unable to start container process: exec: \"/etc/plain\": permission denied"),
            (program(&[]), "unable to start container process: no command specified"),
            (mounted, "failed to mount /no/such at /a: No such file or directory (os error 2)"),
            (layerless, ": No such file or directory (os error 2): /no/layer"),
            (named, "container name \"../x\" is not a plain name"),
            (able, "unknown capability \"FLY\""),
        ];
        fs::create_dir_all(pod.path("layer/etc")).unwrap();
        fs::write(pod.path("layer/etc/plain"), "x").unwrap();
        for (container, text) in table {
            let error = pod.client.start(&container).await.unwrap_err();
            assert!(matches!(error, Error::Refused(_)));
            assert!(error.to_string().ends_with(text), "{error}");
        }
        assert_eq!(pod.client.states().await.unwrap(), []);
        assert_eq!(pod.run(&pod.container("bad", "exit 3")).await.0.exit.unwrap().code, 3);
        pod.finish().await;
    });
}

#[test]
fn containers_share_network_and_volumes() {
    pod_test(|| async {
        let memory = tempfile::tempdir().unwrap();
        let path = memory.path().to_owned();
        let pod = Pod::with(|sandbox| {
            sandbox.tmpfs = vec![Tmpfs { path: path.clone(), size: Some(1 << 20) }];
        })
        .await;
        fs::create_dir(pod.path("volume")).unwrap();
        fs::write(pod.path("hosts"), "127.0.0.1 localhost\n").unwrap();
        let mounts = [("volume", "/data/deep", false), ("hosts", "/etc/hosts", true)]
            .map(|(source, target, read_only)| Mount { source: pod.path(source), target: target.into(), read_only });
        let memory = Mount { source: path.clone(), target: "/memory".into(), read_only: false };
        let mut server =
            pod.container("server", "write /data/deep/a one + write /memory/b two + write /dev/shm/c three + serve 80");
        server.mounts = mounts.to_vec();
        server.mounts.push(memory);
        let mut client = server.clone();
        pod.client.start(&server).await.unwrap();
        pod.printed("server", "listening").await;
        client = shim::Container {
            mounts: client.mounts.split_off(0),
            ..pod.container(
                "client",
                "cat /data/deep/a + cat /memory/b + cat /dev/shm/c + connect 80 + cat /etc/hosts + write /etc/hosts x",
            )
        };
        let (_, output) = pod.run(&client).await;
        assert_eq!(
            output,
            "onetwothreehello\n127.0.0.1 localhost\nwrite /etc/hosts x: Read-only file system (os error 30)\n"
        );
        assert!(fs::read_dir(&path).unwrap().next().is_none(), "the host must not see the pod's tmpfs");
        pod.finish().await;
    });
}

#[test]
fn another_agent_adopts() {
    pod_test(|| async {
        let pod = Pod::new().await;
        pod.client.start(&pod.container("one", "exit 5")).await.unwrap();
        pod.client.start(&pod.container("two", "sleep")).await.unwrap();
        let mut exits = pod.client.exits().await.unwrap();
        in_time(exits.next()).await.unwrap();
        drop(exits);
        let second = Client::spawn(&exe(), &pod.sandbox).await.unwrap_err().to_string();
        assert!(second.starts_with("a shim runs in ") && second.ends_with(" already"), "{second}");
        let again = Client::connect(&pod.sandbox.dir).await.unwrap();
        assert_eq!(again.pid(), pod.client.pid());
        let states = again.states().await.unwrap();
        assert_eq!(states.iter().map(|state| state.name.as_str()).collect::<Vec<_>>(), ["one", "two"]);
        assert_eq!(states[0].exit.as_ref().unwrap().code, 5);
        assert!(states[1].exit.is_none() && lives(states[1].pid));
        assert_eq!(in_time(again.exits().await.unwrap().next()).await.unwrap().name, "one");
        assert_eq!(shim::last_states(&pod.sandbox.dir).unwrap(), states);
        pod.finish().await;
    });
}

#[test]
fn memory_limits_kill() {
    pod_test(|| async {
        let pod = Pod::new().await;
        let mut hungry = pod.container("hungry", "eat 200 + exit 0");
        hungry.limits =
            Limits { memory: Some(32 << 20), pids: Some(20), cpu_shares: Some(100), cpu_quota: Some(100_000) };
        let (state, _) = pod.run(&hungry).await;
        assert!(state.limits, "cgroups can not be written here; run this as root of the machine");
        // BPF programs know pods by the hierarchy of version 2, also where limits are in those of version 1.
        let sleeper = pod.client.start(&pod.container("sleeper", "sleep")).await.unwrap();
        let groups = std::fs::read_to_string(format!("/proc/{}/cgroup", sleeper.pid)).unwrap();
        let path = format!("{}/sleeper", pod.sandbox.cgroup.as_ref().unwrap());
        let unified = groups.lines().find(|line| line.starts_with("0::"));
        assert!(unified.is_none_or(|line| line.ends_with(&path)), "{groups}");
        let exit = state.exit.unwrap();
        assert_eq!((exit.code, exit.oom), (137, true));
        pod.finish().await;
    });
}

#[test]
fn a_shared_pid_namespace() {
    pod_test(|| async {
        let pod = Pod::with(|sandbox| sandbox.share_processes = true).await;
        let sleeper = pod.client.start(&pod.container("sleeper", "sleep")).await.unwrap();
        let (_, output) = pod.run(&pod.container("viewer", "ls /proc")).await;
        assert!(output.contains("\"1\", ") && output.contains("\"2\", "), "{output}");
        let args = ["/inside", "sleep"].map(str::to_owned).to_vec();
        let exec = Exec { container: "sleeper".into(), args, stdout: true, ..Exec::default() };
        let mut process = pod.client.exec(&exec).await.unwrap();
        pod.client.signal("sleeper", 9).await.unwrap();
        until("the sleeper ends", || !lives(sleeper.pid)).await;
        let limits = pod.client.states().await.unwrap()[0].limits;
        if !limits {
            pod.client.shutdown().await.unwrap();
        } else {
            assert_eq!(in_time(process.wait()).await.unwrap().code, 137);
        }
        pod.finish().await;
    });
}

#[test]
fn the_hosts_network() {
    pod_test(|| async {
        let pod = Pod::with(|sandbox| sandbox.host_network = true).await;
        let commands = "cat /proc/sys/kernel/hostname + ls /sys/class";
        let (_, output) = pod.run(&pod.container("host", commands)).await;
        let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        assert!(output.starts_with(&name) && output.contains("\"net\""), "{output}");
        pod.finish().await;
    });
}

#[test]
fn a_pod_that_can_not_be_made_says_why() {
    pod_test(|| async {
        let pod = Pod::with(|sandbox| drop(sandbox.sysctls.insert("net.ipv4.ip_forward".into(), "1".into()))).await;
        let (_, output) = pod.run(&pod.container("web", "cat /proc/sys/net/ipv4/ip_forward")).await;
        assert_eq!(output, "1\n");
        let (dir, none) = (tempfile::tempdir().unwrap(), "/no/such/directory");
        let path = dir.path().to_owned();
        let table = [
            (exe(), Sandbox { dir: none.into(), ..Sandbox::default() }, "failed to write the sandbox: No such file"),
            (
                "/no/exe".into(),
                Sandbox { dir: path.clone(), ..Sandbox::default() },
                "failed to start the shim: No such",
            ),
            (
                "/bin/true".into(),
                Sandbox { dir: path.clone(), ..Sandbox::default() },
                "the shim ended before it was ready",
            ),
            (
                exe(),
                Sandbox { sysctls: [("net.x".into(), "1".into())].into(), dir: path.clone(), ..Sandbox::default() },
                "failed to set sysctl net.x to \"1\": No such file or directory",
            ),
            (
                exe(),
                Sandbox { hostname: "x".repeat(65), dir: path, ..Sandbox::default() },
                "failed to set hostname \"xxx",
            ),
        ];
        for (exe, sandbox, text) in table {
            let error = Client::spawn(&exe, &sandbox).await.unwrap_err().to_string();
            assert!(error.starts_with(text), "{error}");
        }
        pod.finish().await;
    });
}
