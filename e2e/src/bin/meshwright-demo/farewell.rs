//! How to look round in the cluster that the demo has made.

use std::path::Path;

use meshwright_e2e::{Lab, TestResult};

use super::{Tools, tell};

/// What the user map of the first user namespace is: everybody is who they are.
const EVERYBODY: &str = "4294967295";

/// Prints the way in, and what to try there.
pub(crate) fn say(lab: &Lab, tools: &Tools) -> TestResult {
    let pid = lab.pid().ok_or("the demo's cluster has no process to enter")?;
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let logs = lab.logs_dir()?;
    let enter = enter(pid, &map, std::env::var_os("SUDO_USER").is_some());
    tell::line(&directions(&enter, lab.kubeconfig(), &logs, &tools.meshwright));
    let path = std::env::var_os("PATH").unwrap_or_default();
    if !std::env::split_paths(&path).any(|dir| dir.join("kubectl").is_file()) {
        tell::line("This machine has no kubectl; https://kubernetes.io/docs/tasks/tools/ tells how to get one.");
    }
    Ok(())
}

fn directions(enter: &str, kubeconfig: &Path, logs: &Path, meshwright: &Path) -> String {
    let (kubeconfig, logs, meshwright) = (kubeconfig.display(), logs.display(), meshwright.display());
    format!(
        "\nTo look round, open a shell in the cluster's network (its addresses exist only there):\n\
         \n  {enter} env KUBECONFIG={kubeconfig} bash\n\
         \nand try\n\
         \n  kubectl get mi,nodes\
         \n  kubectl explain mi.spec\
         \n  kubectl -n istio-system get pods,services\
         \n  kubectl -n shop get pods\
         \n  {meshwright} status --watch\
         \n  kubectl -n istio-system delete service istiod      # it comes back\
         \n  kubectl edit mi demo                               # another gateway, for example\
         \n  kubectl delete mi demo                             # waits while pods of the shop have proxies\
         \n\nWhat istiod and the operator say is in {logs}/pods."
    )
}

/// The lab of an ordinary user lies in a user namespace, which must be entered too.
fn enter(pid: u32, uid_map: &str, by_sudo: bool) -> String {
    let in_first_namespace = uid_map.split_whitespace().nth(2) == Some(EVERYBODY);
    match (in_first_namespace, by_sudo) {
        (true, true) => format!("sudo nsenter -t {pid} -n"),
        (true, false) => format!("nsenter -t {pid} -n"),
        (false, _) => format!("nsenter -t {pid} -U -n --preserve-credentials"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_in_fits_who_started_the_demo() {
        let everybody = "         0          0 4294967295\n";
        assert_eq!(enter(7, everybody, true), "sudo nsenter -t 7 -n");
        assert_eq!(enter(7, everybody, false), "nsenter -t 7 -n");
        assert_eq!(enter(7, "0 1000 1\n", false), "nsenter -t 7 -U -n --preserve-credentials");
    }

    #[test]
    fn the_directions_name_the_kubeconfig_and_the_command() {
        let paths = ["/lab/kubeconfig", "/lab/logs", "/bin/meshwright"].map(Path::new);
        let text = directions("nsenter", paths[0], paths[1], paths[2]);
        assert!(text.contains("env KUBECONFIG=/lab/kubeconfig bash"), "{text}");
        assert!(text.contains("/bin/meshwright status --watch"), "{text}");
    }
}
