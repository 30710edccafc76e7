//! What streams between kubectl and pods, for every kubectl that is found: over WebSockets, and over SPDY as older ones
//! do it.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpStream},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use testbed::{Following, Lab, Options, inside, kubectls, need, run, wait};

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
    // Sends back what it got, when all has come; a dollar is written twice in a command.
    script(&lab, "mirror", "exec nc -ll -p 7 -e sh -c 'cat > /tmp/$$$$; cat /tmp/$$$$'");
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

/// The command with a terminal of 45 lines and 123 columns: `script` gives it one.
fn on_terminal(command: &Command) -> Command {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let quoted: Vec<_> = words.map(|word| format!("'{}'", word.to_string_lossy())).collect();
    let mut terminal = Command::new(need("script"));
    terminal.args(["-qec", &format!("stty rows 45 cols 123; {}", quoted.join(" ")), "/dev/null"]);
    terminal.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    terminal
}

/// Runs it with that on its standard input, and returns what it printed.
fn given(mut command: Command, input: &str) -> String {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("it takes its input");
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn terminals_have_the_size_of_the_clients() {
    if !inside("terminals_have_the_size_of_the_clients") {
        return;
    }
    let lab = lab();
    script(&lab, "shell", "exec sleep 1000");
    ready(&lab, "shell");
    let sized = "exec --stdin --tty shell -- sh -c \"until [ \\\"$(stty size)\\\" = \\\"45 123\\\" ]; do sleep 0.1; done; echo sized\"";
    for (name, command) in clients(&lab, &sized.replace('"', "'").replace("\\'", "\"")) {
        let said = run(&mut on_terminal(&command));
        has(&String::from_utf8_lossy(&said.stdout), &["sized\r\n"]);
        assert!(said.status.success(), "{name}");
    }
}

#[test]
fn running_containers_are_attached_to() {
    if !inside("running_containers_are_attached_to") {
        return;
    }
    let lab = lab();
    for (number, (name, command)) in clients(
        &lab,
        "run NAME -i --rm --quiet --restart=Never --image=busybox --image-pull-policy=IfNotPresent -- cat",
    )
    .into_iter()
    .enumerate()
    {
        let mut named = Command::new(command.get_program());
        named.args(
            command.get_args().map(|word| if word == "NAME" { format!("cat{number}").into() } else { word.to_owned() }),
        );
        named.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        has(&given(named, "hello there\n"), &["hello there\n"]);
        assert_eq!(lab.kubectl("get pods -o name"), "", "{name}");
    }
    lab.apply(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: typed\nspec:\n  terminationGracePeriodSeconds: 1\n  containers:\n  - name: main\n    image: busybox\n    imagePullPolicy: IfNotPresent\n    command: [sh]\n    stdin: true\n    tty: true\n",
    );
    ready(&lab, "typed");
    // The first client leaves with its input, and the shell stays.
    for word in ["one", "two"] {
        let following = Following::of({
            let attach = lab.kubectl_command("attach typed --stdin --tty");
            let mut shell = Command::new("sh");
            shell.args(["-c", &format!("(echo 'echo said $((1+1)) {word}'; sleep 5) | \"$@\"",), "sh"]);
            shell.arg(attach.get_program()).args(attach.get_args());
            shell.envs(attach.get_envs().filter_map(|(name, value)| Some((name, value?))));
            shell
        });
        following.until("answer of the shell", PATIENCE, |said| said.contains(&format!("said 2 {word}")));
    }
    assert_eq!(lab.kubectl("get pod typed -o jsonpath={.status.containerStatuses[0].restartCount}"), "0");
    has(&lab.kubectl_fails("attach none"), &["pods \"none\" not found"]);
}

#[test]
fn files_are_copied_both_ways() {
    if !inside("files_are_copied_both_ways") {
        return;
    }
    let lab = lab();
    script(&lab, "shell", "exec sleep 1000");
    ready(&lab, "shell");
    let there = lab.scratch().join("there");
    std::fs::create_dir_all(there.join("deep/er")).expect("directories");
    std::fs::write(there.join("deep/er/large"), vec![b'x'; 5 << 20]).expect("a file");
    std::fs::write(there.join("deep/small"), "small\n").expect("a file");
    for (number, (name, mut command)) in clients(&lab, "cp there shell:/tmp/HERE").into_iter().enumerate() {
        command.current_dir(lab.scratch());
        let output = run(&mut command);
        assert!(output.status.success(), "{name}: {output:?}");
        assert_eq!(lab.kubectl("exec shell -- cat /tmp/HERE/deep/small"), "small\n");
        let mut command = lab.kubectl_of(Path::new(command.get_program()), &format!("cp shell:/tmp/HERE back{number}"));
        let output = run(command.current_dir(lab.scratch()));
        assert!(output.status.success(), "{name}: {output:?}");
        let back = lab.scratch().join(format!("back{number}"));
        assert!(std::fs::read(back.join("deep/er/large")).expect("a file") == vec![b'x'; 5 << 20], "{name}");
        lab.kubectl("exec shell -- rm -r /tmp/HERE");
    }
}

#[test]
fn logs_of_several_containers_and_of_restarts() {
    if !inside("logs_of_several_containers_and_of_restarts") {
        return;
    }
    let lab = lab();
    let container = |name: &str, script: &str| {
        format!(
            "  - name: {name}\n    image: busybox\n    imagePullPolicy: IfNotPresent\n    command: [sh, -c, \"{script}\"]\n"
        )
    };
    lab.apply(&format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: many\n  labels:\n    app: many\nspec:\n  terminationGracePeriodSeconds: 1\n  initContainers:\n{}  containers:\n{}{}",
        container("first", "echo begun"),
        container("left", "echo left; exec sleep 1000"),
        container("again", "echo right; while [ ! -e /tmp/go ]; do sleep 0.1; done; echo over"),
    ));
    ready(&lab, "many");
    wait("lines", PATIENCE, || {
        let log = lab.kubectl("logs many --all-containers --prefix");
        if log.lines().count() == 3 { Ok(()) } else { Err(log) }
    });
    has(
        &lab.kubectl("logs -l app=many --all-containers --prefix"),
        &["[pod/many/first] begun\n", "[pod/many/left] left\n", "[pod/many/again] right\n"],
    );
    has(&lab.kubectl("logs many"), &["left\n"]);
    assert_eq!(lab.kubectl("logs many -c again --since=1h"), "right\n");
    assert_eq!(lab.kubectl("logs many -c again --since-time=2100-01-01T00:00:00Z"), "");
    assert_eq!(lab.kubectl("logs many -c again --limit-bytes=3"), "rig");
    let following = lab.follow("logs many --follow --all-containers");
    following.until("what there is", PATIENCE, |said| said.contains("begun") && said.contains("right"));
    let mut one = lab.follow("logs many --follow -c again");
    // One that came late would follow the container's next start.
    one.until("its own start", PATIENCE, |said| said == "right\n");
    lab.kubectl("exec many -c again -- touch /tmp/go");
    following.until("the last line", PATIENCE, |said| said.contains("over\n"));
    assert!(one.end(PATIENCE), "a log that is followed ends with its container: {}", one.said());
    assert_eq!(one.said(), "right\nover\n");
    wait("restart", PATIENCE, || {
        let restarts = lab.kubectl("get pod many -o jsonpath={.status.containerStatuses[*].restartCount}");
        if restarts.contains('1') { Ok(()) } else { Err(restarts) }
    });
    assert_eq!(lab.kubectl("logs many -c again --previous"), "right\nover\n");
    // More than fits into one file.
    script(
        &lab,
        "loud",
        "i=0; while [ $i -lt 12 ]; do head -c 999999 /dev/zero | tr '\\0' x; echo $i; i=$((i+1)); done; echo done; exec sleep 1000",
    );
    ready(&lab, "loud");
    let following = lab.follow("logs loud --follow --pod-running-timeout=30s --tail=-1");
    following.until("all of it", PATIENCE, |said| said.ends_with("done\n"));
    assert!(following.said().len() > 11_999_000, "{} bytes", following.said().len());
}

#[test]
fn pods_are_debugged() {
    if !inside("pods_are_debugged") {
        return;
    }
    let lab = lab();
    lab.kubectl("run web --image=coracle/echo");
    ready(&lab, "web");
    let image = "--image=busybox --image-pull-policy=IfNotPresent --profile=general --quiet";
    // Its processes are seen, and its localhost is the pod's. What is said before the client is there, it does not hear.
    let look = "read go; ps; wget -q -O - http://127.0.0.1/";
    let said =
        given(lab.kubectl_command(&format!("debug web -i {image} -c look --target=web -- sh -c '{look}'")), "go\n");
    has(&said, &["/coracle echo", "pod: web\n"]);
    let alone = given(lab.kubectl_command(&format!("debug web -i {image} -c alone -- sh -c 'read go; ps'")), "go\n");
    has(&alone, &["sh -c read go"]);
    assert!(!alone.contains("/coracle"), "{alone}");
    lab.kubectl(&format!("debug web {image} -c stays --target=web -- sh -c 'echo begun; exec sleep 1000'"));
    let status = wait("ephemeral containers", PATIENCE, || {
        let status = lab.get("pod web")["status"]["ephemeralContainerStatuses"].clone();
        if status[2]["state"]["running"].is_object() { Ok(status) } else { Err(status.to_string()) }
    });
    assert_eq!(status[0]["name"], "look");
    assert_eq!(status[0]["state"]["terminated"]["exitCode"], 0);
    assert_eq!(lab.kubectl("logs web -c stays"), "begun\n");
    has(&lab.kubectl("exec web -c stays -- ps"), &["/coracle echo", "sleep 1000"]);
    has(&lab.kubectl("describe pod web"), &["Ephemeral Containers:", "look:", "Started"]);
    assert_eq!(lab.kubectl("get pod web -o jsonpath={.status.containerStatuses[0].restartCount}"), "0");
    let copied = format!("debug web {image} --copy-to=copy --container=extra --share-processes -- sleep 1000");
    lab.kubectl(&copied);
    ready(&lab, "copy");
    has(&lab.kubectl("exec copy -c extra -- ps"), &["/coracle echo"]);
}

#[test]
fn pods_services_and_nodes_are_proxied() {
    if !inside("pods_services_and_nodes_are_proxied") {
        return;
    }
    // The API server is outside of the pods' network.
    let lab = Lab::start(env!("CARGO_BIN_EXE_coracle"), Options::with("--isolated"));
    lab.import_busybox();
    lab.kubectl("run web --image=coracle/echo --port=80");
    lab.kubectl("expose pod web --port=8080 --target-port=80");
    // Servers that say what they are asked; one that speaks first is hung up on.
    let answers = |head: &str, cat: &str| {
        format!("read -r line; printf \"HTTP/1.1 {head}\\r\\n\\r\\n\"; printf \"%s\\n\" \"$line\"; {cat}")
    };
    let head = answers("200 OK\\r\\nConnection: close", "timeout 1 cat");
    let upgrade = answers("101 Switching Protocols\\r\\nConnection: Upgrade\\r\\nUpgrade: websocket", "cat");
    script(&lab, "mirror", &format!("nc -ll -p 7 -e sh -c '{head}' & exec nc -ll -p 8 -e sh -c '{upgrade}'"));
    ready(&lab, "web");
    ready(&lab, "mirror");
    let raw = |path: &str| lab.kubectl(&format!("get --raw /api/v1/{path}"));
    for path in ["pods/web/proxy/", "pods/http:web:80/proxy/", "pods/web/proxy", "services/web:8080/proxy/x"] {
        has(&raw(&format!("namespaces/default/{path}")), &["pod: web\n"]);
    }
    assert_eq!(raw("nodes/coracle/proxy/healthz"), "ok");
    has(&raw("nodes/coracle/proxy/pods"), &["\"kind\":\"PodList\"", "mirror"]);
    let fails = |path: &str| lab.kubectl_fails(&format!("get --raw /api/v1/{path}"));
    has(
        &fails("namespaces/default/pods/web:81/proxy/"),
        &[
            "(ServiceUnavailable)",
            "error trying to reach service: dial tcp 10.244.0.",
            ":81: connect: connection refused",
        ],
    );
    has(&fails("namespaces/default/services/web:81/proxy/"), &["no service port 81 found for service \"web\""]);
    has(&fails("namespaces/default/services/none/proxy/"), &["services \"none\" not found"]);
    lab.kubectl("create service clusterip alone --tcp=80");
    has(&fails("namespaces/default/services/alone/proxy/"), &["no endpoints available for service \"alone\""]);

    let proxy = lab.follow("proxy --port=0");
    proxy.until("port", PATIENCE, |said| said.contains("127.0.0.1:"));
    let address = proxy.said().split_whitespace().last().expect("an address").to_owned();
    let mirror = format!("{address}/api/v1/namespaces/default/pods/mirror");
    let url = format!("{mirror}:7/proxy/a/b%2Fc/?d=e");
    let post = ["--silent", "--max-time", "10", "--data", "the body", "--header", "X-Own: yes", &url];
    let said = testbed::text(Command::new(need("curl")).args(post));
    has(&said, &["POST /a/b%2Fc/?d=e HTTP/1.1\r\n", "x-own: yes\r\n", "the body"]);
    assert!(!said.to_lowercase().contains("authorization"), "{said}");
    let mut connection = TcpStream::connect(&address).expect("kubectl listens");
    connection.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let request = "GET /api/v1/namespaces/default/pods/mirror:8/proxy/talk HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    connection.write_all(request.as_bytes()).expect("it takes the request");
    let mut said = String::new();
    let mut until = |end: &str| {
        let mut byte = [0];
        while !said.ends_with(end) {
            connection.read_exact(&mut byte).unwrap_or_else(|error| panic!("{error}: {said}"));
            said.push(byte[0].into());
        }
        said.clone()
    };
    has(&until("\r\n\r\n"), &["HTTP/1.1 101"]);
    // What is written after the upgrade comes back.
    has(&until("GET /talk HTTP/1.1\r\n"), &["HTTP/1.1 101"]);
}

#[test]
fn nodes_are_debugged() {
    if !inside("nodes_are_debugged") {
        return;
    }
    debugs(&lab());
}

#[test]
fn nodes_in_namespaces_of_their_own_are_debugged() {
    if !inside("nodes_in_namespaces_of_their_own_are_debugged") {
        return;
    }
    let lab = Lab::start(env!("CARGO_BIN_EXE_coracle"), Options::with("--isolated"));
    lab.import_busybox();
    debugs(&lab);
}

/// A pod in the node's namespaces, with the node's files, that leaves nothing.
fn debugs(lab: &Lab) {
    let image = "--image=busybox --image-pull-policy=IfNotPresent --profile=sysadmin --quiet";
    let mark = lab.scratch().join("mark");
    std::fs::write(&mark, "of the node").expect("a file");
    let look = format!("read go; ps -o pid,args; ls /sys/class/net; cat /host{}", mark.display());
    let said = given(lab.kubectl_command(&format!("debug node/coracle -i {image} -- sh -c '{look}'")), "go\n");
    has(&said, &[" shim ", "cor", "of the node"]);
    let pods = lab.kubectl("get pods -o name");
    lab.kubectl(&format!("delete {} --timeout=20s", pods.trim()));
}

#[test]
fn pods_are_resized_in_place() {
    if !inside("pods_are_resized_in_place") {
        return;
    }
    let lab = lab();
    let resources = |cpu: &str, memory: &str| {
        format!(
            "{{\"spec\":{{\"containers\":[{{\"name\":\"main\",\"resources\":{{\"limits\":{{\"cpu\":\"{cpu}\",\"memory\":\"{memory}\"}},\"requests\":{{\"cpu\":\"{cpu}\",\"memory\":\"{memory}\"}}}}}}]}}}}"
        )
    };
    lab.kubectl(&format!(
        "run main --image=busybox --image-pull-policy=IfNotPresent --overrides '{}' --override-type=strategic -- sleep 1000",
        resources("100m", "64Mi")
    ));
    ready(&lab, "main");
    let uid = lab.kubectl("get pod main -o jsonpath={.metadata.uid}");
    let limits = || {
        let find = format!(
            "cat $(find /sys/fs/cgroup -path '*{uid}/main.0/*' -name memory.max -o -path '*{uid}/main.0/*' -name memory.limit_in_bytes -o -path '*{uid}/main.0/*' -name cpu.cfs_quota_us -o -path '*{uid}/main.0/*' -name cpu.max)"
        );
        let said = testbed::text(Command::new("sh").args(["-c", &find]));
        let mut words: Vec<String> = said.split_whitespace().map(str::to_owned).collect();
        words.sort();
        words
    };
    has(&limits().join(" "), &["10000", "67108864"]);
    for (cpu, memory, expected) in [("200m", "128Mi", ["20000", "134217728"]), ("50m", "32Mi", ["5000", "33554432"])] {
        lab.kubectl(&format!("patch pod main --subresource resize --patch '{}'", resources(cpu, memory)));
        wait("resize", PATIENCE, || {
            let pod = lab.get("pod main");
            let status = &pod["status"]["containerStatuses"][0];
            let seen = (&status["resources"]["limits"]["memory"], &status["allocatedResources"]["cpu"]);
            if seen == (&memory.into(), &cpu.into()) { Ok(()) } else { Err(status.to_string()) }
        });
        has(&limits().join(" "), &expected);
    }
    assert_eq!(lab.kubectl("get pod main -o jsonpath={.status.containerStatuses[0].restartCount}"), "0");
}
