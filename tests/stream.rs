//! What streams between kubectl and pods, for every kubectl that is found: over WebSockets, and over SPDY as older ones
//! do it.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpStream},
    path::Path,
    process::Command,
    time::Duration,
};

use testbed::{Following, Lab, Options, inside, kubectls, run, wait};

const PATIENCE: Duration = Duration::from_secs(30);
/// Each way over a forwarded port.
const LOAD: usize = 8 << 20;

fn lab() -> Lab {
    let lab = Lab::start(env!("CARGO_BIN_EXE_coracle"), Options::default());
    lab.import_busybox();
    lab
}

/// A pod of busybox that runs a shell script.
fn script(lab: &Lab, name: &str, script: &str) {
    lab.apply(&format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\nspec:\n  terminationGracePeriodSeconds: 1\n  containers:\n  - name: main\n    image: busybox\n    imagePullPolicy: IfNotPresent\n    command: [sh, -c, {}]\n",
        serde_json::Value::from(script)
    ));
}

fn ready(lab: &Lab, pod: &str) {
    lab.kubectl(&format!("wait --for=condition=Ready pod/{pod} --timeout=30s"));
}

/// Asserts that every one of these is in the text.
fn has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no {part:?} in:\n{text}");
    }
}

/// Each kubectl as it comes, and those that know both ways in the other way, too.
fn clients(lab: &Lab, arguments: &str) -> Vec<(String, Command)> {
    let of = |kubectl: &Path, websockets: &str| {
        let mut command = lab.kubectl_of(kubectl, arguments);
        command.env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", websockets);
        command.env("KUBECTL_PORT_FORWARD_WEBSOCKETS", websockets);
        (format!("{} websockets={websockets}", kubectl.display()), command)
    };
    kubectls().iter().flat_map(|kubectl| [of(kubectl, "true"), of(kubectl, "false")]).collect()
}

/// A port of this machine that leads to a pod, for as long as the first is kept.
fn forwarded(name: &str, command: Command) -> (Following, u16) {
    let following = Following::of(command);
    following.until(&format!("port of {name}"), PATIENCE, |said| said.contains("Forwarding from 127.0.0.1:"));
    let said = following.said();
    let port = said.split("127.0.0.1:").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok());
    (following, port.unwrap_or_else(|| panic!("{name}: {said}")))
}

#[test]
fn ports_are_forwarded_to_pods_deployments_and_services() {
    if !inside("ports_are_forwarded_to_pods_deployments_and_services") {
        return;
    }
    let lab = lab();
    lab.kubectl("create deployment web --image=coracle/echo");
    lab.kubectl("expose deployment web --port=8080 --target-port=80");
    // Sends back what it got, when all has come.
    script(&lab, "mirror", "exec nc -ll -p 7 -e sh -c 'cat > /tmp/$$; cat /tmp/$$'");
    ready(&lab, "mirror");
    lab.kubectl("wait --for=condition=Available deployment/web --timeout=30s");
    let load: Vec<u8> = (0..LOAD).map(|number| (number * 7 % 251) as u8).collect();
    for (name, command) in clients(&lab, "port-forward pod/mirror :7") {
        let (_following, port) = forwarded(&name, command);
        let talk = || {
            let mut connection = TcpStream::connect(("127.0.0.1", port)).expect("kubectl listens");
            connection.set_read_timeout(Some(PATIENCE)).expect("a socket");
            connection.write_all(&load).expect("it takes all");
            connection.shutdown(Shutdown::Write).expect("one half is closed");
            let mut back = Vec::new();
            connection.read_to_end(&mut back).expect("an answer");
            assert!(back == load, "{name}: {} of {LOAD} bytes came back", back.len());
        };
        std::thread::scope(|scope| (0..2).map(|_| scope.spawn(talk)).for_each(drop));
    }
    for target in ["deployment/web :80", "service/web :8080"] {
        let (_following, port) = forwarded(target, lab.kubectl_command(&format!("port-forward {target}")));
        for _ in 0..3 {
            has(&lab.curl(&format!("http://127.0.0.1:{port}")).expect(target), &["pod: web-"]);
        }
    }
}

#[test]
fn forwarding_says_what_it_cannot_reach() {
    if !inside("forwarding_says_what_it_cannot_reach") {
        return;
    }
    let lab = lab();
    lab.kubectl("run web --image=coracle/echo");
    ready(&lab, "web");
    let knock = |port: u16| {
        let mut connection = TcpStream::connect(("127.0.0.1", port)).expect("kubectl listens");
        let _ = connection.write_all(b"knock").and_then(|()| connection.read_to_end(&mut Vec::new()));
    };
    for (name, command) in clients(&lab, "port-forward pod/web :81") {
        let (following, port) = forwarded(&name, command);
        knock(port);
        following.until(&name, PATIENCE, |said| {
            said.contains("error forwarding port 81 to pod") && said.contains("connection refused")
        });
    }
    let (mut following, port) = forwarded("pod", lab.kubectl_command("port-forward pod/web :80"));
    assert!(lab.curl(&format!("http://127.0.0.1:{port}")).is_ok());
    lab.kubectl("delete pod web");
    knock(port);
    following.end(PATIENCE);
    has(&following.said(), &["error forwarding port 80 to pod", "lost connection to pod"]);
    has(&lab.kubectl_fails("port-forward pod/none :80"), &["pods \"none\" not found"]);
}

#[test]
fn commands_run_for_every_kubectl() {
    if !inside("commands_run_for_every_kubectl") {
        return;
    }
    let lab = lab();
    script(&lab, "shell", "exec sleep 1000");
    ready(&lab, "shell");
    for (name, mut command) in clients(&lab, "exec shell -- sh -c 'echo out; echo err >&2; exit 7'") {
        let output = run(&mut command);
        assert_eq!(output.status.code(), Some(7), "{name}: {output:?}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "out\n", "{name}");
        has(&String::from_utf8_lossy(&output.stderr), &["err\n", "command terminated with exit code 7"]);
    }
    let text = "a line of some length that is repeated\n".repeat(20_000);
    std::fs::write(lab.scratch().join("text"), &text).expect("a file");
    for (name, mut command) in clients(&lab, "exec --stdin shell -- cat") {
        command.stdin(std::fs::File::open(lab.scratch().join("text")).expect("the file"));
        let output = run(&mut command);
        assert!(output.status.success(), "{name}: {output:?}");
        assert!(output.stdout == text.as_bytes(), "{name}: {} of {} bytes", output.stdout.len(), text.len());
    }
    for (name, mut command) in clients(&lab, "exec shell -- none-such") {
        let output = run(&mut command);
        assert!(!output.status.success(), "{name}");
        has(&String::from_utf8_lossy(&output.stderr), &["none-such"]);
    }
    wait("end of all that was run", PATIENCE, || {
        let processes = lab.kubectl("exec shell -- ps");
        if processes.contains("cat") { Err(processes) } else { Ok(()) }
    });
}
