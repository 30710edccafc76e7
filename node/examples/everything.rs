//! What a test's node needs beside the agent: a shim (`everything shim DIR`), and the program of its containers:
//! commands separated by `+`.

use std::{
    env, fs,
    io::{self, Read, Write},
    net::TcpListener,
    process::{self, ExitCode},
    thread,
    time::Duration,
};

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    if args.first().is_some_and(|arg| arg == "shim") {
        return shim::main(env::args_os().skip(2));
    }
    for command in args.split(|arg| arg == "+") {
        let words: Vec<&str> = command.iter().map(String::as_str).collect();
        if let Err(error) = run(&words) {
            eprintln!("{}: {error}", words.join(" "));
            return ExitCode::from(99);
        }
    }
    ExitCode::SUCCESS
}

fn run(words: &[&str]) -> io::Result<()> {
    match *words {
        ["exit", code] => process::exit(code.parse().unwrap_or(1)),
        ["say", text] => println!("{text}"),
        ["env", name] => println!("{name}={}", env::var(name).unwrap_or_default()),
        ["cat", path] => print!("{}", fs::read_to_string(path)?),
        ["write", path, text] => fs::write(path, text)?,
        ["copy"] => drop(io::copy(&mut io::stdin(), &mut io::stdout())?),
        ["wait", path] => {
            while !fs::exists(path)? {
                thread::sleep(Duration::from_millis(5));
            }
        }
        ["sleep"] => loop {
            thread::park();
        },
        ["serve", port] => serve(port)?,
        _ => return Err(io::Error::other("unknown command")),
    }
    io::stdout().flush()
}

/// Answers every HTTP request with its path; `/bad` with status 500, `/quit` by ending.
fn serve(port: &str) -> io::Result<()> {
    let listener = TcpListener::bind(format!("0.0.0.0:{port}"))?;
    println!("listening");
    loop {
        let (mut stream, _) = listener.accept()?;
        let mut request = [0; 4096];
        // A probe that only connects sends nothing, and resets.
        let length = stream.read(&mut request).unwrap_or(0);
        let request = String::from_utf8_lossy(&request[..length]).into_owned();
        let path = request.split(' ').nth(1).unwrap_or("/").to_owned();
        if path == "/quit" {
            process::exit(3);
        }
        let status = if path == "/bad" { "500 Internal Server Error" } else { "200 OK" };
        let length = path.len();
        let _ = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{path}");
    }
}
