//! The lab's network namespace. One thread enters it; its child processes inherit it.

use std::io::Write as _;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, unshare};

use crate::LabError;

/// Address that the API server listens on and advertises; it rejects loopback addresses for advertising.
pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 98, 0, 1);

/// Address of the n-th Node, counted from 0.
pub(crate) fn node_address(n: usize) -> Ipv4Addr {
    numbered(Ipv4Addr::new(10, 98, 1, 0), n)
}

/// Address of the n-th Pod that runs as a process, counted from 0.
pub(crate) fn pod_address(n: usize) -> Ipv4Addr {
    numbered(Ipv4Addr::new(10, 99, 0, 0), n)
}

fn numbered(base: Ipv4Addr, n: usize) -> Ipv4Addr {
    // Skips the network address; no lab exhausts a /16.
    let offset = u32::try_from(n % 0xFFFE).unwrap_or_default() + 1;
    Ipv4Addr::from(u32::from(base) + offset)
}

/// Moves the calling thread into a new, empty network namespace and brings up `lo` with the lab's addresses.
pub(crate) fn enter() -> Result<(), LabError> {
    unshare_network()?;
    ip(&format!("link set lo up\naddr add {SERVER}/32 dev lo\n"))
}

/// Moves the calling thread into a new network namespace without interfaces.
pub(crate) fn unshare_network() -> Result<(), LabError> {
    unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| LabError::Namespace { errno })
}

/// Connects the namespace of thread `tid` to the current one by a veth pair, with a route to `address`.
/// The kernel removes the pair together with the other namespace.
pub(crate) fn connect_pod(tid: i32, address: Ipv4Addr) -> Result<(), LabError> {
    let [_, _, c, d] = address.octets();
    let link = format!("pod{c}-{d}");
    ip(&format!(
        "link add name {link} type veth peer name eth0 netns {tid}\nlink set {link} up\n\
         route add {address}/32 dev {link} src {SERVER}\n"
    ))
}

/// Configures the Pod's end of [`connect_pod`]'s veth pair; the thread in the new namespace calls it.
pub(crate) fn configure_pod_link(address: Ipv4Addr) -> Result<(), LabError> {
    ip(&format!(
        "link set lo up\naddr add {address}/32 dev eth0\nlink set eth0 up\nroute add default dev eth0 src {address}\n"
    ))
}

/// Adds an address to `lo`.
pub(crate) fn add_address(address: Ipv4Addr) -> Result<(), LabError> {
    ip(&format!("addr add {address}/32 dev lo\n"))
}

fn ip(batch: &str) -> Result<(), LabError> {
    let failed = |detail: String| LabError::Address { batch: batch.to_owned(), detail };
    let mut child = Command::new("ip")
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| failed(format!("{error}; install the package iproute2")))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(batch.as_bytes()).map_err(|error| failed(error.to_string()))?;
    }
    let output = child.wait_with_output().map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
    }
}
