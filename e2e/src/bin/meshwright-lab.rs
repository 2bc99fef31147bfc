//! `meshwright-lab up`: starts a lab for interactive use or for a single command.

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use meshwright_e2e::{Lab, LabOptions, NodeSpec, TestResult, with_lab};

#[derive(Parser)]
#[command(
    name = "meshwright-lab",
    about = "A Kubernetes control plane with real istiod on this machine, without containers"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start a lab, and stop it on Ctrl-C or when the command given with --exec ends
    Up(Up),
}

#[derive(Args)]
struct Up {
    /// Node port range of the API server
    #[arg(long, value_name = "RANGE", default_value = "30000-32767")]
    node_port_range: String,
    /// Number of Nodes
    #[arg(long, value_name = "N", default_value_t = 1)]
    nodes: usize,
    /// Run this command in the lab's network namespace with KUBECONFIG set, then exit with its exit code
    #[arg(long, value_name = "COMMAND", num_args = 1.., allow_hyphen_values = true)]
    exec: Vec<String>,
}

fn main() -> ExitCode {
    let Command::Up(up) = Cli::parse().command;
    let mut options = LabOptions::default().needs_own_lab();
    options.node_port_range.clone_from(&up.node_port_range);
    options.nodes = (1..=up.nodes).map(|n| NodeSpec::new(format!("node-{n}"))).collect();
    match with_lab(options, async |lab| run(lab, &up).await) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("meshwright-lab: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(lab: &Lab, up: &Up) -> TestResult<ExitCode> {
    let Some((program, args)) = up.exec.split_first() else {
        println!("{}", instructions(lab)?);
        tokio::signal::ctrl_c().await?;
        println!("stopping");
        return Ok(ExitCode::SUCCESS);
    };
    let mut command = tokio::process::Command::new(program);
    command.args(args).env("KUBECONFIG", lab.kubeconfig()).kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| format!("{program}: {error}"))?;
    let code = tokio::select! {
        status = child.wait() => status?.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1),
        interrupted = tokio::signal::ctrl_c() => {
            interrupted?;
            130
        }
    };
    Ok(ExitCode::from(code))
}

fn instructions(lab: &Lab) -> TestResult<String> {
    let pid = lab.pid().unwrap_or_default();
    // A non-root user's lab is inside a user namespace, which must be entered too.
    let enter = if nix::unistd::getuid().is_root() && !in_user_namespace() {
        format!("nsenter -t {pid} -n")
    } else {
        format!("nsenter -t {pid} -U -n --preserve-credentials")
    };
    let (kubeconfig, logs) = (lab.kubeconfig().display(), lab.logs_dir()?);
    Ok(format!(
        "The lab is running.\n  kubeconfig  {kubeconfig}\n  logs        {}\n  shell       {enter} env KUBECONFIG={kubeconfig} bash\n\
         The API server is reachable only from that shell, which runs in the lab's network namespace. Press Ctrl-C to stop.",
        logs.display()
    ))
}

/// The initial user namespace maps all user IDs; other namespaces map fewer.
fn in_user_namespace() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.split_whitespace().nth(2) != Some("4294967295")
}
