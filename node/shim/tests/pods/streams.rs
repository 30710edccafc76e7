//! Logs, attach and exec.

use crate::fixture::{Pod, in_time, pod_test};
use shim::{Exec, Log};
use std::{
    fs::{self, File},
    io::{Read, Write},
    os::{fd::OwnedFd, unix::net::UnixStream},
};

fn read(fd: Option<OwnedFd>) -> String {
    let mut text = String::new();
    // A terminal ends with EIO.
    let _ = File::from(fd.unwrap()).read_to_string(&mut text);
    text
}

async fn read_all(fd: Option<OwnedFd>) -> String {
    in_time(tokio::task::spawn_blocking(|| read(fd))).await.unwrap()
}

fn exec(container: &str, commands: &str) -> Exec {
    let args = std::iter::once("inside").chain(commands.split(' ')).map(str::to_owned).collect();
    Exec { container: container.into(), args, stdout: true, stderr: true, ..Exec::default() }
}

#[test]
fn logs_are_rotated_and_lose_nothing() {
    pod_test(|| async {
        let pod = Pod::new().await;
        let mut talker = pod.container("talker", "lines 3000 + part end");
        let path = pod.path("talker.log");
        talker.log = Some(Log { path: path.clone(), max_size: 100_000, max_files: 5 });
        pod.run(&talker).await;
        let mut all = String::new();
        for name in ["talker.log.4", "talker.log.3", "talker.log.2", "talker.log.1", "talker.log"] {
            let text = fs::read_to_string(pod.path(name)).unwrap_or_default();
            assert!(text.len() <= 100_000, "{name} has {}", text.len());
            all += &text;
        }
        let lines: Vec<&str> = all.lines().collect();
        assert_eq!(lines.len(), 3001);
        assert!(lines[2999].ends_with("2999") && lines[2999].contains(" stdout F line 0"));
        assert!(lines[3000].ends_with(" stdout F end"));
        pod.finish().await;
    });
}

#[test]
fn exec_with_pipes() {
    pod_test(|| async {
        let pod = Pod::new().await;
        pod.client.start(&pod.container("web", "sleep")).await.unwrap();
        let mut process = pod
            .client
            .exec(&Exec {
                stdin: true,
                env: vec!["B=c".into()],
                ..exec("web", "echo + complain oh + env B + ls /proc/1 + exit 9")
            })
            .await
            .unwrap();
        File::from(process.stdin.take().unwrap()).write_all(b"one\ntwo\n").unwrap();
        let output = read_all(process.stdout.take()).await;
        assert!(output.starts_with("one\ntwo\nc\n"), "{output}");
        assert_eq!(read_all(process.stderr.take()).await, "oh\n");
        assert_eq!(in_time(process.wait()).await.unwrap().code, 9);
        // Several at once.
        let mut all = Vec::new();
        for code in 0..5 {
            all.push(pod.client.exec(&exec("web", &format!("exit {code}"))).await.unwrap());
        }
        for (code, process) in all.iter_mut().enumerate() {
            assert_eq!(in_time(process.wait()).await.unwrap().code, code as i32);
        }
        let mut missing = exec("web", "");
        missing.args = vec!["nothing".into()];
        let error = pod.client.exec(&missing).await.unwrap_err().to_string();
        assert!(error.ends_with("exec: \"nothing\": executable file not found in $PATH"), "{error}");
        let error = pod.client.exec(&exec("other", "exit 0")).await.unwrap_err().to_string();
        assert_eq!(error, "there is no container \"other\"");
        pod.finish().await;
    });
}

#[test]
fn exec_with_a_terminal() {
    pod_test(|| async {
        let pod = Pod::new().await;
        pod.client.start(&pod.container("web", "sleep")).await.unwrap();
        let asked = Exec { tty: true, ..exec("web", "echo + tty + ls /dev/pts + exit 4") };
        let mut process = pod.client.exec(&asked).await.unwrap();
        let tty = process.tty.take().unwrap();
        let size = rustix::termios::Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&tty, size).unwrap();
        rustix::io::write(&tty, b"hi\n\x04").unwrap();
        let output = read_all(Some(tty)).await;
        assert!(output.contains("hi\r\nhi\r\n") && output.contains("80x24\r\n"), "{output:?}");
        assert_eq!(in_time(process.wait()).await.unwrap().code, 4);
        pod.finish().await;
    });
}

#[test]
fn execs_end_with_their_client_and_their_container() {
    pod_test(|| async {
        let pod = Pod::new().await;
        let mut exits = pod.client.exits().await.unwrap();
        pod.client.start(&pod.container("web", "sleep")).await.unwrap();
        let mut left = pod.client.exec(&exec("web", "sleep")).await.unwrap();
        let output = left.stdout.take();
        drop(left);
        assert!(["", "ready\n"].contains(&read_all(output).await.as_str()));
        let mut process = pod.client.exec(&exec("web", "sleep")).await.unwrap();
        pod.client.signal("web", 9).await.unwrap();
        assert_eq!(in_time(process.wait()).await.unwrap().code, 137);
        assert_eq!(in_time(exits.next()).await.unwrap().exit.unwrap().code, 137);
        pod.finish().await;
    });
}

#[test]
fn attach_gives_input_and_sees_output() {
    pod_test(|| async {
        let pod = Pod::new().await;
        let mut echo = pod.container("echo", "echo + exit 6");
        echo.stdin = true;
        echo.stdin_once = true;
        let mut exits = pod.client.exits().await.unwrap();
        pod.client.start(&echo).await.unwrap();
        let mut attached = pod.client.attach("echo").await.unwrap();
        File::from(attached.stdin.take().unwrap()).write_all(b"one\n").unwrap();
        assert_eq!(read_all(attached.stdout.take()).await, "one\n");
        assert_eq!(in_time(exits.next()).await.unwrap().exit.unwrap().code, 6);
        assert_eq!(pod.output("echo"), "one\n");
        let mut shell = pod.container("shell", "tty + echo + exit 8");
        shell.tty = true;
        shell.stdin = true;
        pod.client.start(&shell).await.unwrap();
        pod.printed("shell", "0x0").await;
        let mut attached = pod.client.attach("shell").await.unwrap();
        rustix::io::write(attached.tty.as_ref().unwrap(), b"two\n\x04").unwrap();
        let output = read_all(attached.stdout.take()).await;
        assert!(output.contains("two\r\ntwo\r\n"), "{output:?}");
        assert_eq!(in_time(exits.next()).await.unwrap().exit.unwrap().code, 8);
        pod.finish().await;
    });
}

#[test]
fn agents_that_do_not_read_or_talk_nonsense_harm_nothing() {
    pod_test(|| async {
        let pod = Pod::new().await;
        let mut talker = pod.container("talker", "echo + lines 3000 + exit 2");
        talker.stdin = true;
        talker.stdin_once = true;
        let mut exits = pod.client.exits().await.unwrap();
        pod.client.start(&talker).await.unwrap();
        let mut attached = pod.client.attach("talker").await.unwrap();
        let socket = pod.sandbox.dir.join("shim.sock");
        for nonsense in [&b"\xff\xff\xff\xff"[..], b"\x05\0\0\0hello", b"\x09\0"] {
            let mut stream = UnixStream::connect(&socket).unwrap();
            stream.write_all(nonsense).unwrap();
        }
        let mut other = UnixStream::connect(&socket).unwrap();
        let request = br#"{"version":9,"verb":"States"}"#;
        other.write_all(&[&(request.len() as u32).to_le_bytes(), &request[..]].concat()).unwrap();
        let mut answer = [0; 256];
        let length = other.read(&mut answer).unwrap();
        let answer = String::from_utf8_lossy(&answer[4..length]).into_owned();
        assert_eq!(answer, r#"{"Refused":"this shim speaks version 1 of its protocol, not 9"}"#);
        assert_eq!(pod.client.states().await.unwrap().len(), 1);
        // 300 KB of output, and nobody takes the copy of it.
        let unread = attached.stdout.take();
        drop(attached.stdin.take());
        assert_eq!(in_time(exits.next()).await.unwrap().exit.unwrap().code, 2);
        assert_eq!(pod.output("talker").lines().count(), 3000);
        drop(unread);
        pod.finish().await;
    });
}
