//! A shim (`inside shim DIR`), and a program for its containers to run: commands separated by `+`.

use std::{
    env, fs,
    io::{self, BufRead, Read, Write},
    net::{TcpListener, TcpStream},
    process::{self, ExitCode},
};

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    if args.first().is_some_and(|arg| arg == "shim") {
        return shim::main(env::args_os().skip(2));
    }
    for command in args.split(|arg| arg == "+") {
        let words: Vec<&str> = command.iter().map(String::as_str).collect();
        if let Err(error) = run(&words) {
            println!("{}: {error}", words.join(" "));
        }
    }
    ExitCode::SUCCESS
}

fn run(words: &[&str]) -> io::Result<()> {
    match *words {
        ["exit", code] => process::exit(code.parse().unwrap_or(1)),
        ["say", text] => println!("{text}"),
        ["complain", text] => eprintln!("{text}"),
        ["part", text] => print!("{text}"),
        ["cat", path] => print!("{}", fs::read_to_string(path)?),
        ["ls", path] => {
            let mut names: Vec<_> = fs::read_dir(path)?.flatten().map(|entry| entry.file_name()).collect();
            names.sort();
            println!("{names:?}");
        }
        ["write", path, text] => fs::write(path, text)?,
        ["cwd"] => println!("{}", env::current_dir()?.display()),
        ["env", name] => println!("{}", env::var(name).unwrap_or_default()),
        ["lines", count] => (0..count.parse().unwrap_or(0)).for_each(|n| println!("line {n:0>90}")),
        ["echo"] => {
            for line in io::stdin().lock().lines() {
                println!("{}", line?);
            }
        }
        ["tty"] => {
            let size = rustix::termios::tcgetwinsize(io::stdin())?;
            println!("{}x{}", size.ws_col, size.ws_row);
        }
        ["eat", mebibytes] => {
            let mut all = Vec::new();
            for _ in 0..mebibytes.parse().unwrap_or(0) {
                all.push(vec![1_u8; 1 << 20]);
            }
            println!("ate {}", all.len());
        }
        ["serve", port] => {
            let listener = TcpListener::bind(format!("0.0.0.0:{port}"))?;
            println!("listening");
            listener.accept()?.0.write_all(b"hello\n")?;
        }
        ["connect", port] => {
            let mut text = String::new();
            TcpStream::connect(format!("127.0.0.1:{port}"))?.read_to_string(&mut text)?;
            print!("{text}");
        }
        ["sleep"] => sleep(libc::SIG_DFL),
        ["wait-for-term"] => {
            extern "C" fn leave(_: libc::c_int) {
                // SAFETY: _exit may be called in a signal handler.
                unsafe { libc::_exit(42) }
            }
            sleep(leave as *const () as libc::sighandler_t)
        }
        ["mknod", path] => {
            let mode = rustix::fs::Mode::from_raw_mode(0o666);
            let null = rustix::fs::makedev(1, 5);
            rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::CharacterDevice, mode, null)?;
            fs::File::open(path)?;
        }
        _ => println!("unknown command {words:?}"),
    }
    io::stdout().flush()
}

fn sleep(action: libc::sighandler_t) -> ! {
    // SAFETY: sets the action of one signal, then waits for signals only.
    unsafe {
        libc::signal(libc::SIGTERM, action);
        println!("ready");
        loop {
            libc::pause();
        }
    }
}
