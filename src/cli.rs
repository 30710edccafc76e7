//! The command line: the only reader of arguments and environment.

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::{
    config::{NodeConfig, Options},
    data::Dir,
    demo, dig, down, echo, images, isolated, kubeproxy, log, nameserver,
    progress::{complain, say},
    status, trace, up,
};

/// A whole Kubernetes cluster in one small binary.
#[derive(Debug, Parser)]
#[command(name = "coracle", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show a cluster at work: start one in namespaces of its own, deploy the NodePort lesson, ask it, remove it
    Demo,
    /// Start a cluster of one node, or go on with the one in the data directory
    Up {
        #[command(flatten)]
        options: Box<Options>,
        /// Leave it running in the background
        #[arg(long)]
        detach: bool,
        /// Write progress to standard output for the process that detached this one
        #[arg(long, hide = true)]
        detached: bool,
    },
    /// Stop the cluster and remove what it made on this machine; its data stays
    Down(DataDir),
    /// Say whether the cluster runs, and where
    Status(DataDir),
    /// Print the kubeconfig for kubectl
    Kubeconfig(DataDir),
    /// Serve DNS for any Kubernetes, as CoreDNS does and by its Corefile: nothing else of a cluster is needed
    Dns(nameserver::Options),
    /// Serve the Services of any Kubernetes on this node, as kube-proxy does: nothing else of a cluster is needed
    Proxy(Box<kubeproxy::Options>),
    /// Ask the cluster's DNS as a pod does, and say where each record comes from or why there is none
    Dig(dig::Options),
    /// Show the path of a packet to a Service, send one, and say where it went or why it was lost
    Trace(trace::Options),
    /// Import, list and remove container images
    Image {
        #[command(subcommand)]
        command: images::Command,
        #[command(flatten)]
        data_dir: DataDir,
    },
    /// The program of the built-in image: answers HTTP, TCP and UDP with who it is and who asks
    Echo(echo::Options),
    #[command(hide = true)]
    IsolatedEnter { config: String },
    #[command(hide = true)]
    IsolatedInit {
        config: String,
        #[arg(long)]
        single_uid: bool,
    },
    #[command(hide = true)]
    IsolatedNode {
        config: String,
        #[arg(long)]
        single_uid: bool,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct DataDir {
    /// Where everything of the cluster is kept
    #[arg(long, global = true, value_name = "DIR", default_value_os_t = Dir::default_path())]
    pub data_dir: PathBuf,
}

/// Runs the command that the arguments name.
pub fn main() -> ExitCode {
    let command = Cli::parse().command;
    // A query log that the Corefile asks for is shown.
    let filter = match command {
        Command::Dns(_) => "warn,kube_client=off,coracle=info,dns=info",
        Command::Proxy(_) => "warn,kube_client=off,coracle=info,proxy=info",
        _ => "warn,dns::log=info",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(filter));
    log::start(filter, matches!(command, Command::Dns(_)));
    match run(command) {
        Ok(code) => code,
        Err(error) => {
            complain(format_args!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        // These must have one thread only, the last two until they are where the cluster's network is.
        Command::IsolatedEnter { config } => isolated::enter(&config),
        Command::IsolatedInit { config, single_uid } => isolated::init(&config, single_uid),
        Command::Dig(options) => dig::run(options),
        Command::Trace(options) => trace::run(options),
        command => {
            let mut runtime = tokio::runtime::Builder::new_multi_thread();
            runtime.enable_all().build()?.block_on(run_async(command))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn run_async(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Demo => demo::run().await,
        Command::Up { options, detach: true, .. } => up::detach(&options).await,
        Command::Up { options, detached, .. } => up::run(*options, detached).await,
        Command::Down(DataDir { data_dir }) => down::run(&Dir::new(&data_dir)?).await,
        Command::Status(DataDir { data_dir }) => status::run(&Dir::new(&data_dir)?).await,
        Command::Kubeconfig(DataDir { data_dir }) => print_kubeconfig(&Dir::new(&data_dir)?),
        Command::Image { command, data_dir } => images::run(command, &Dir::new(&data_dir.data_dir)?).await,
        Command::Dns(options) => nameserver::run(options).await,
        Command::Proxy(options) => kubeproxy::run(*options).await,
        Command::Echo(options) => echo::run(options).await,
        Command::IsolatedNode { config, single_uid } => {
            let config: NodeConfig = serde_json::from_str(&config)?;
            isolated::node(NodeConfig { single_uid, ..config }).await
        }
        Command::IsolatedEnter { .. } | Command::IsolatedInit { .. } | Command::Dig(_) | Command::Trace(_) => {
            anyhow::bail!("handled before the runtime")
        }
    }
}

fn print_kubeconfig(dir: &Dir) -> anyhow::Result<()> {
    let path = dir.join("kubeconfig");
    let text = std::fs::read_to_string(&path).map_err(|error| {
        anyhow::anyhow!("read {}: {error}; is there a cluster? start one with `coracle up`", path.display())
    })?;
    say(text.trim_end());
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
