//! A command in a container, run to its end: for probes and hooks.

use std::{fs::File, io::Read, os::fd::OwnedFd};

/// Most output of a command that is kept, as kubelet has it for probes.
const OUTPUT_MAX: u64 = 10 << 10;

/// Runs a command in the container that the shim knows as `attempt`; its exit code and the
/// beginning of its output. It is killed when the future is dropped.
pub(crate) async fn run(shim: &shim::Client, attempt: &str, command: &[String]) -> Result<(i32, String), String> {
    let exec = shim::Exec {
        container: attempt.to_owned(),
        args: command.to_vec(),
        stdout: true,
        stderr: true,
        ..shim::Exec::default()
    };
    let mut process = shim.exec(&exec).await.map_err(|error| error.to_string())?;
    let streams = (process.stdout.take(), process.stderr.take());
    let output = async {
        let (out, error) = tokio::join!(read(streams.0), read(streams.1));
        out + &error
    };
    let (exit, output) = tokio::join!(process.wait(), output);
    let exit = exit.map_err(|error| error.to_string())?;
    Ok((exit.code, output))
}

async fn read(stream: Option<OwnedFd>) -> String {
    let Some(stream) = stream else {
        return String::new();
    };
    let reading = tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::new();
        let mut file = File::from(stream);
        let _ = Read::by_ref(&mut file).take(OUTPUT_MAX).read_to_end(&mut bytes);
        // The rest is thrown away, so that the command is not stopped by a full pipe.
        let _ = std::io::copy(&mut file, &mut std::io::sink());
        String::from_utf8_lossy(&bytes).into_owned()
    });
    reading.await.unwrap_or_default()
}
