//! What a child does last: streams, user, working directory, and becoming the program.

use crate::{
    birth::Parent,
    kernel::{exec, failed, reset_signals},
    privilege::{become_user, wanted},
    spec::Program,
};
use rustix::{
    fd::{AsFd, OwnedFd},
    fs::{CWD, Gid, Mode, OFlags, Uid, fchown, open},
    io::Errno,
    pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt},
};
use std::{
    convert::Infallible,
    ffi::CString,
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// Where programs are looked up without a PATH.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A child's standard streams.
#[derive(Debug)]
pub(crate) enum Streams {
    /// Standard input, output and error.
    Three([OwnedFd; 3]),
    /// A terminal of the container's own devpts.
    Terminal,
}

/// Becomes the program. Everything around it (root, namespaces, cgroup) is there already.
pub(crate) fn run(
    program: &Program,
    privileged: bool,
    streams: Streams,
    parent: &Parent,
) -> Result<Infallible, String> {
    let user = &program.user;
    match streams {
        Streams::Three(three) => {
            for fd in &three {
                // So that the user can open /dev/stdout; pipes only, and no loss if denied.
                let owner = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
                let pipe = rustix::fs::fstat(fd)
                    .is_ok_and(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Fifo);
                if pipe {
                    let _ = fchown(fd, Some(owner.0), Some(owner.1));
                }
            }
            let [stdin, stdout, stderr] = &three;
            redirect(stdin, stdout, stderr)?;
        }
        Streams::Terminal => terminal(program, parent)?,
    }
    let cwd = if program.cwd.is_empty() { "/" } else { &program.cwd };
    // On a read-only root it has to be there; what is wrong shows in the next step.
    let _ = fs::create_dir_all(cwd);
    rustix::process::chdir(cwd).map_err(failed(format!("enter the working directory {cwd:?}")))?;
    let capabilities = wanted(privileged, &program.capabilities)?;
    become_user(user, capabilities, program.no_new_privileges)?;
    // In the host's pid namespace nothing else ends it with the shim. A change of user would undo it.
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    let path = find(program)?;
    let strings = |list: &[String]| list.iter().map(|item| CString::new(item.as_str())).collect::<Result<Vec<_>, _>>();
    let nul = |_| "failed to start: an argument or variable contains a NUL byte".to_owned();
    let args = strings(&program.args).map_err(nul)?;
    let env = strings(&program.env).map_err(nul)?;
    let name = CString::new(path.to_string_lossy().into_owned()).map_err(nul)?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    reset_signals();
    let error = exec(&name, &args, &env);
    Err(format!("unable to start container process: exec {}: {}", path.display(), reason(&error)))
}

fn redirect(stdin: impl AsFd, stdout: impl AsFd, stderr: impl AsFd) -> Result<(), String> {
    rustix::stdio::dup2_stdin(stdin)
        .and_then(|()| rustix::stdio::dup2_stdout(stdout))
        .and_then(|()| rustix::stdio::dup2_stderr(stderr))
        .map_err(failed("set up the standard streams"))
}

fn terminal(program: &Program, parent: &Parent) -> Result<(), String> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let master = open("/dev/pts/ptmx", flags, Mode::empty()).map_err(failed("open a terminal"))?;
    unlockpt(&master).map_err(failed("unlock the terminal"))?;
    let slave = ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
        .map_err(failed("open the terminal"))?;
    let owner = Uid::from_raw(program.user.uid);
    let _ = fchown(&slave, Some(owner), None);
    parent.give(master.as_fd()).map_err(failed("hand the terminal over"))?;
    rustix::process::ioctl_tiocsctty(&slave).map_err(failed("take the terminal"))?;
    redirect(&slave, &slave, &slave)
}

/// The program's file; errors as runc and containerd word them.
fn find(program: &Program) -> Result<PathBuf, String> {
    let Some(name) = program.args.first().filter(|name| !name.is_empty()) else {
        return Err("unable to start container process: no command specified".into());
    };
    let refused = |what: String| Err(format!("unable to start container process: exec: {name:?}: {what}"));
    if name.contains('/') {
        return match fs::metadata(name) {
            Err(error) => refused(format!("stat {name}: {}", reason(&error))),
            Ok(meta) if meta.is_dir() => refused("is a directory".into()),
            Ok(_) if !executable(Path::new(name)) => refused("permission denied".into()),
            Ok(_) => Ok(PathBuf::from(name)),
        };
    }
    let path = program.env.iter().rev().find_map(|variable| variable.strip_prefix("PATH="));
    let found = path
        .unwrap_or(PATH)
        .split(':')
        .map(|dir| Path::new(dir).join(name))
        .find(|file| fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0));
    match found {
        Some(file) => Ok(file),
        None => refused("executable file not found in $PATH".into()),
    }
}

fn executable(file: &Path) -> bool {
    rustix::fs::accessat(CWD, file, rustix::fs::Access::EXEC_OK, rustix::fs::AtFlags::EACCESS).is_ok()
}

/// An error in the words Go programs use, which users of Kubernetes search for.
fn reason(error: &io::Error) -> String {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOENT) => "no such file or directory".into(),
        Some(Errno::ACCESS) => "permission denied".into(),
        Some(Errno::NOEXEC) => "exec format error".into(),
        Some(Errno::NOTDIR) => "not a directory".into(),
        Some(Errno::TOOBIG) => "argument list too long".into(),
        _ => error.to_string(),
    }
}
