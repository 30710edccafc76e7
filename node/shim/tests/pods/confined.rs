//! What a container may and may not do.

use crate::fixture::{Pod, pod_test, single_id};
use shim::Mount;
use std::{fs, os::unix::fs::symlink};

fn field(status: &str, name: &str) -> String {
    let line = status.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    line.split_once(':').map(|(_, value)| value.split_whitespace().collect::<Vec<_>>().join(" ")).unwrap_or_default()
}

#[test]
fn capabilities_and_users() {
    pod_test(|| async {
        let pod = Pod::new().await;
        let (_, status) = pod.run(&pod.container("plain", "cat /proc/self/status")).await;
        for set in ["CapEff", "CapPrm", "CapBnd"] {
            assert_eq!(field(&status, set), "00000000a80425fb", "{set}");
        }
        assert_eq!((field(&status, "CapInh"), field(&status, "CapAmb")), ("0".repeat(16), "0".repeat(16)));
        assert_eq!((field(&status, "NoNewPrivs"), field(&status, "SigBlk")), ("0".into(), "0".repeat(16)));
        let mut less = pod.container("less", "cat /proc/self/status");
        less.program.capabilities.drop = vec!["ALL".into()];
        less.program.capabilities.add = vec!["NET_BIND_SERVICE".into()];
        less.program.no_new_privileges = true;
        let (_, status) = pod.run(&less).await;
        assert_eq!((field(&status, "CapBnd"), field(&status, "NoNewPrivs")), ("0000000000000400".into(), "1".into()));
        let mut user = pod.container("user", "cat /proc/self/status + write /dev/stdout hi");
        user.program.user = shim::User { uid: 1000, gid: 100, groups: vec![5, 6] };
        if single_id() {
            let error = pod.client.start(&user).await.unwrap_err().to_string();
            assert_eq!(error, "failed to set groups [5, 6]: Operation not permitted (os error 1)");
            user.program.user.groups.clear();
            user.program.user.gid = 0;
            let error = pod.client.start(&user).await.unwrap_err().to_string();
            assert_eq!(error, "failed to set user 1000: it is not mapped in this user namespace");
        } else {
            let (_, status) = pod.run(&user).await;
            assert_eq!(field(&status, "Uid"), "1000 1000 1000 1000");
            assert_eq!((field(&status, "Gid"), field(&status, "Groups")), ("100 100 100 100".into(), "5 6".into()));
            assert_eq!(field(&status, "CapEff"), "0".repeat(16));
            assert!(status.ends_with("hi\n"), "{status}");
        }
        let mut all = pod.container("all", "cat /proc/self/status + write /proc/sys/net/ipv4/tcp_syncookies 1");
        all.privileged = true;
        let (_, status) = pod.run(&all).await;
        assert_eq!(
            field(&status, "CapEff"),
            "000001ffffffffff"
                .replace("1ffffffffff", &field(&fs::read_to_string("/proc/self/status").unwrap(), "CapPrm")[5..])
        );
        assert!(!status.contains("Read-only"), "{status}");
        pod.finish().await;
    });
}

#[test]
fn masked_and_read_only_paths() {
    pod_test(|| async {
        let pod = Pod::new().await;
        let mut strict = pod.container(
            "strict",
            "write /x y + write /proc/sys/kernel/hostname x + write /proc/irq/default_smp_affinity 1 + cat /proc/timer_list + cat /proc/keys + ls /sys/firmware + write /sys/x y + ls /sys/class/net + ls /dev + write /dev/null x + mknod /dev/shm/z",
        );
        strict.root.read_only = true;
        let (_, output) = pod.run(&strict).await;
        let expected = "\
            write /x y: Read-only file system (os error 30)\n\
            write /proc/sys/kernel/hostname x: Read-only file system (os error 30)\n\
            write /proc/irq/default_smp_affinity 1: Read-only file system (os error 30)\n\
            []\n\
            write /sys/x y: Read-only file system (os error 30)\n\
            [\"lo\"]\n\
            [\"core\", \"fd\", \"full\", \"mqueue\", \"null\", \"ptmx\", \"pts\", \"random\", \"shm\", \"stderr\", \"stdin\", \"stdout\", \"tty\", \"urandom\", \"zero\"]\n";
        let rest = output.strip_prefix(expected).unwrap_or_else(|| panic!("{output}"));
        // A node can not be made, or made but not be used.
        assert!(
            rest.starts_with("mknod /dev/shm/z: ") && rest.contains("denied") || rest.contains("not permitted"),
            "{rest}"
        );
        pod.finish().await;
    });
}

#[test]
fn links_do_not_lead_out_of_the_root() {
    pod_test(|| async {
        let pod = Pod::new().await;
        fs::create_dir(pod.path("outside")).unwrap();
        fs::create_dir(pod.path("volume")).unwrap();
        fs::write(pod.path("volume/file"), "in").unwrap();
        symlink(pod.path("outside"), pod.path("layer/out")).unwrap();
        symlink("../../../../../../tmp", pod.path("layer/up")).unwrap();
        let mut linked = pod.container("linked", "cat /up/a/file");
        fs::create_dir(pod.path("layer/tmp")).unwrap();
        linked.mounts = vec![Mount { source: pod.path("volume"), target: "/up/a".into(), read_only: false }];
        assert_eq!(pod.run(&linked).await.1, "in\n");
        assert!(pod.path("linked/upper/tmp/a").exists());
        let mut escaping = pod.container("escaping", "exit 0");
        escaping.mounts = vec![Mount { source: pod.path("volume"), target: "/out/a".into(), read_only: false }];
        let error = pod.client.start(&escaping).await.unwrap_err().to_string();
        assert!(error.starts_with("failed to mount "), "{error}");
        assert!(!pod.path("outside/a").exists());
        pod.finish().await;
    });
}

#[test]
fn many_layers() {
    pod_test(|| async {
        let pod = Pod::new().await;
        let mut deep = pod.container("deep", "cat /n");
        let long = "l".repeat(120);
        for number in (0..120).rev() {
            let dir = pod.path(&format!("{long}/{number}"));
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join("n"), format!("{number}")).unwrap();
            deep.root.lower.insert(0, dir);
        }
        assert_eq!(pod.run(&deep).await.1, "0\n");
        pod.finish().await;
    });
}
