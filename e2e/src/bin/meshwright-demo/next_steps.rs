//! Instructions for exploring the demo's cluster.

use std::path::Path;

use meshwright_e2e::{Lab, TestResult};

use super::{Tools, output};

/// Length of the ID range in the initial user namespace's `uid_map`.
const ALL_IDS: &str = "4294967295";

/// Prints how to enter the cluster's network namespace, and commands to try.
pub(crate) fn print(lab: &Lab, tools: &Tools) -> TestResult {
    let pid = lab.pid().ok_or("the demo's cluster has no process")?;
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let logs = lab.logs_dir()?;
    let enter = enter(pid, &map, std::env::var_os("SUDO_USER").is_some());
    output::line(&instructions(&enter, lab.kubeconfig(), &logs, &tools.meshwright));
    let path = std::env::var_os("PATH").unwrap_or_default();
    if !std::env::split_paths(&path).any(|dir| dir.join("kubectl").is_file()) {
        output::line("kubectl is not installed; see https://kubernetes.io/docs/tasks/tools/");
    }
    Ok(())
}

fn instructions(enter: &str, kubeconfig: &Path, logs: &Path, meshwright: &Path) -> String {
    let (kubeconfig, logs, meshwright) = (kubeconfig.display(), logs.display(), meshwright.display());
    format!(
        "\nTo explore the cluster, open a shell in its network namespace (the API server is reachable only there):\n\
         \n  {enter} env KUBECONFIG={kubeconfig} bash\n\
         \nand try:\n\
         \n  kubectl get mi,nodes\
         \n  kubectl explain mi.spec\
         \n  kubectl -n istio-system get pods,services\
         \n  kubectl -n shop get pods\
         \n  {meshwright} status --watch\
         \n  kubectl -n istio-system delete service istiod      # the operator recreates it\
         \n  kubectl edit mi demo                               # for example, add a gateway\
         \n  kubectl delete mi demo                             # waits while pods have proxies\
         \n\nThe logs of istiod and the operator are in {logs}/pods."
    )
}

/// Command that enters the lab. A non-root user's lab is inside a user namespace, which must be entered too.
fn enter(pid: u32, uid_map: &str, with_sudo: bool) -> String {
    let in_initial_namespace = uid_map.split_whitespace().nth(2) == Some(ALL_IDS);
    match (in_initial_namespace, with_sudo) {
        (true, true) => format!("sudo nsenter -t {pid} -n"),
        (true, false) => format!("nsenter -t {pid} -n"),
        (false, _) => format!("nsenter -t {pid} -U -n --preserve-credentials"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enter_command_depends_on_user() {
        let all_ids = "         0          0 4294967295\n";
        assert_eq!(enter(7, all_ids, true), "sudo nsenter -t 7 -n");
        assert_eq!(enter(7, all_ids, false), "nsenter -t 7 -n");
        assert_eq!(enter(7, "0 1000 1\n", false), "nsenter -t 7 -U -n --preserve-credentials");
    }

    #[test]
    fn instructions_contain_kubeconfig_and_command() {
        let paths = ["/lab/kubeconfig", "/lab/logs", "/bin/meshwright"].map(Path::new);
        let text = instructions("nsenter", paths[0], paths[1], paths[2]);
        assert!(text.contains("env KUBECONFIG=/lab/kubeconfig bash"), "{text}");
        assert!(text.contains("/bin/meshwright status --watch"), "{text}");
    }
}
