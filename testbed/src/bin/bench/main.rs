//! Benchmarks of Coracle: `cargo run --release -p coracle-testbed --bin bench -- lab`.
//!
//! They run in namespaces of their own and print ratios against something in the same run, since
//! a figure alone says more about the machine than about the program.

mod api;
mod dns;
mod lab;
mod meter;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let built = std::env::current_exe().context("find the own binary")?.with_file_name("coracle");
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["lab"] => lab::outside(&binary(built)?, 60),
        ["lab", "--idle", seconds] => lab::outside(&binary(built)?, seconds.parse()?),
        ["lab-inside", coracle, seconds] => lab::inside(&PathBuf::from(coracle), seconds.parse()?),
        ["api", ref options @ ..] => api::run(&api::Options::parse(options)?),
        ["api-server", dir] => api::server::api(Path::new(dir)),
        ["fixed-server", dir] => api::server::fixed(Path::new(dir)),
        ["dns", ref arguments @ ..] => dns::outside(arguments),
        ["dns-inside", ref arguments @ ..] => dns::inside(&dns::Options::parse(arguments)?),
        ["dns-server", name, address, upstream, services] => {
            dns::server::run(name, address.parse()?, upstream.parse()?, services.parse()?)
        }
        _ => bail!(
            "usage: bench lab [--idle SECONDS]\n  lab  start-up, deployment, idle memory and CPU, size of the binary\nusage: {}\nusage: {}",
            api::USAGE,
            dns::USAGE
        ),
    }
}

fn binary(path: PathBuf) -> anyhow::Result<PathBuf> {
    if !path.exists() {
        bail!("{} is missing: cargo build --release", path.display());
    }
    Ok(path)
}
