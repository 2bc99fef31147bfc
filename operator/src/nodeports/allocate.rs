//! Allocation of node ports.
//!
//! Ports are assigned in this order: explicit ports of the spec, previously pinned ports, ports that the Service
//! currently uses, and finally the lowest free ports of Kubernetes' default range. The lowest ports include the band that
//! Kubernetes reserves for static allocation (none for a range of at most 16 ports, otherwise the first
//! `min(max(16, size / 32), 128)`). Both protocols of a port get the same number, which HTTP/3 requires.

use std::collections::{BTreeMap, BTreeSet};

use super::allocation_error::AllocationError;
use super::candidates::{candidates, is_port_of_nodes};
use super::pins::{PinOrigin, Pins};
use super::port_key::{PortKey, UsedPort};
use super::port_request::{PortRequest, PortRequirement};
use super::range::{KnownRange, PortRange};

/// Input of an allocation.
#[derive(Clone, Copy, Debug)]
pub struct AllocationInput<'a> {
    /// The effective range.
    pub range: &'a KnownRange,
    /// Ports that must not be assigned.
    pub reserved: &'a [PortRange],
    /// Requests of all gateways, with unique keys.
    pub requests: &'a [PortRequest],
    /// Pins of the previous allocation.
    pub previous: &'a Pins,
    /// Ports in use by Services of the cluster.
    pub used: &'a [UsedPort],
}

/// Assigns a node port to each request that needs one, or returns all errors.
pub fn allocate(input: &AllocationInput<'_>) -> Result<Pins, Vec<AllocationError>> {
    let mut allocation = Allocation::new(input);
    let mut errors = allocation.assign_explicit();
    let unassigned = allocation.keep_assigned();
    errors.extend(allocation.assign_free(&unassigned));
    errors.extend(allocation.find_exchange());
    if errors.is_empty() { Ok(allocation.finish()) } else { Err(errors) }
}

/// An allocation in progress.
struct Allocation<'a> {
    input: &'a AllocationInput<'a>,
    requests: Vec<&'a PortRequest>,
    /// Ports in use by unmanaged Services.
    foreign: BTreeMap<u16, &'a UsedPort>,
    /// Requests by Service and port, one for each protocol.
    siblings: BTreeMap<(&'a str, &'a str, u16), Vec<&'a PortRequest>>,
    /// Ports in use by the Service ports that request them.
    current: BTreeMap<&'a PortKey, u16>,
    /// Ports that are only used if no other port is free: pinned for gateways that currently need no node port, or in
    /// use by managed Services, which must release them first.
    second_best: BTreeSet<u16>,
    /// Assigned ports with their requests.
    assigned: BTreeMap<u16, Vec<&'a PortRequest>>,
    pins: Pins,
}

impl<'a> Allocation<'a> {
    fn new(input: &'a AllocationInput<'a>) -> Self {
        let mut requests: Vec<&PortRequest> = input.requests.iter().collect();
        requests.sort_by_key(|request| request.sort_key());
        let services: BTreeSet<(&str, &str)> = requests.iter().map(|request| service(&request.key)).collect();
        let keys: BTreeSet<&PortKey> = requests.iter().map(|request| &request.key).collect();
        let mut allocation = Self {
            input,
            requests,
            foreign: BTreeMap::new(),
            siblings: BTreeMap::new(),
            current: BTreeMap::new(),
            second_best: BTreeSet::new(),
            assigned: BTreeMap::new(),
            pins: Pins::default(),
        };
        for request in allocation.requests.iter().copied().filter(|request| request.port != 0) {
            allocation.siblings.entry(service_port(request)).or_default().push(request);
        }
        for used in input.used {
            if keys.contains(&used.key) {
                allocation.current.insert(&used.key, used.port);
                allocation.second_best.insert(used.port);
            } else if used.own || services.contains(&service(&used.key)) {
                allocation.second_best.insert(used.port);
            } else {
                allocation.foreign.entry(used.port).or_insert(used);
            }
        }
        for request in allocation.requests.iter().filter(|request| request.requirement == PortRequirement::NotNeeded) {
            allocation.second_best.extend(input.previous.get(&request.key).map(|(port, _)| port));
        }
        allocation
    }

    fn reserved(&self, port: u16) -> Option<PortRange> {
        self.input.reserved.iter().find(|range| range.contains(port)).copied()
    }

    fn assign(&mut self, request: &'a PortRequest, port: u16, from: PinOrigin) {
        self.assigned.entry(port).or_default().push(request);
        self.pins.insert(request.key.clone(), port, from);
    }

    /// Assigns the explicit ports of the spec.
    fn assign_explicit(&mut self) -> Vec<AllocationError> {
        let mut errors = Vec::new();
        let limit = self.input.range.explicit_ports();
        for request in self.requests.clone() {
            let PortRequirement::Explicit(port) = request.requirement else { continue };
            let key = || request.key.clone();
            if let Some(range) = limit.as_ref().filter(|limit| !limit.range.contains(port)) {
                errors.push(AllocationError::OutOfRange { key: key(), port, range: range.clone() });
            } else if let Some(by) = self.reserved(port) {
                errors.push(AllocationError::Reserved { key: key(), port, by });
            } else if let Some(user) = self.foreign.get(&port) {
                errors.push(AllocationError::InUse { key: key(), user: (*user).clone() });
            } else if let Some(other) = self.conflicting_request(request, port) {
                errors.push(AllocationError::Duplicate { key: key(), other: other.key.clone(), port });
            } else {
                self.assign(request, port, PinOrigin::Spec);
            }
        }
        errors
    }

    /// Returns whether a port can be assigned to a request without an explicit port.
    fn is_available(&self, request: &PortRequest, port: u16) -> bool {
        self.input.range.range.contains(port)
            && self.reserved(port).is_none()
            && !self.foreign.contains_key(&port)
            && self.conflicting_request(request, port).is_none()
    }

    /// Returns a request that the port is assigned to and that can't share it.
    fn conflicting_request(&self, request: &PortRequest, port: u16) -> Option<&'a PortRequest> {
        self.assigned.get(&port)?.iter().find(|other| !can_share(request, other)).copied()
    }

    /// Keeps previously pinned ports, or else the Service's current ports. Returns the unassigned requests.
    fn keep_assigned(&mut self) -> Vec<&'a PortRequest> {
        let mut unassigned: Vec<&PortRequest> =
            self.requests.iter().copied().filter(|request| request.requirement == PortRequirement::Assign).collect();
        let previous = self.input.previous;
        unassigned.retain(|request| !self.keep(request, previous.get(&request.key).map(|(port, _)| port)));
        unassigned.retain(|request| !self.keep(request, self.current.get(&request.key).copied()));
        unassigned
    }

    fn keep(&mut self, request: &'a PortRequest, port: Option<u16>) -> bool {
        let port = port.filter(|port| self.is_available(request, *port));
        if let Some(port) = port {
            self.assign(request, port, PinOrigin::Assigned);
        }
        port.is_some()
    }

    /// Assigns free ports to the remaining requests.
    fn assign_free(&mut self, unassigned: &[&'a PortRequest]) -> Option<AllocationError> {
        let range = self.input.range.range;
        let mut free_ports: Vec<u16> = candidates(range).filter(|port| self.is_free(*port)).collect();
        // The sort is stable: equal ports keep the order of the candidates.
        free_ports.sort_by_key(|port| (!PortRange::KUBERNETES.contains(*port), self.second_best.contains(port)));
        let free = free_ports.len();
        let mut next_free = free_ports.into_iter();
        let mut needed = 0;
        let mut exhausted = false;
        for request in unassigned {
            if let Some(port) = self.sibling_port(request) {
                self.assign(request, port, PinOrigin::Assigned);
                continue;
            }
            needed += 1;
            match next_free.next() {
                Some(port) => self.assign(request, port, PinOrigin::Assigned),
                None => exhausted = true,
            }
        }
        exhausted.then(|| {
            let reserved = range.ports().filter(|port| self.reserved(*port).is_some()).count();
            let used = self.foreign.keys().filter(|port| range.contains(**port)).count();
            let of_nodes = range.ports().filter(|port| is_port_of_nodes(*port)).count();
            AllocationError::Exhausted { needed, free, reserved, used, of_nodes, range: self.input.range.clone() }
        })
    }

    fn is_free(&self, port: u16) -> bool {
        self.reserved(port).is_none() && !self.foreign.contains_key(&port) && !self.assigned.contains_key(&port)
    }

    /// Returns the port that is pinned for the other protocol of the same Service port.
    fn sibling_port(&self, request: &PortRequest) -> Option<u16> {
        let siblings =
            self.siblings.get(&service_port(request)).into_iter().flatten().filter(|other| other.key != request.key);
        siblings
            .filter_map(|other| self.pins.get(&other.key))
            .map(|(port, _)| port)
            .find(|port| self.is_available(request, *port))
    }

    /// Finds Services that would have to exchange ports. Neither can be written before the other has released its port.
    fn find_exchange(&self) -> Option<AllocationError> {
        let users: BTreeMap<u16, &PortKey> = self.current.iter().map(|(key, port)| (*port, *key)).collect();
        let dependencies: Vec<PortDependency<'_>> = self
            .pins
            .iter()
            .filter_map(|(key, port, _)| Some(PortDependency { key, user: users.get(&port).copied()?, port }))
            .filter(|dependency| service(dependency.key) != service(dependency.user))
            .collect();
        dependencies.iter().find(|dependency| dependency.is_in_cycle(&dependencies)).map(|dependency| {
            AllocationError::Exchange {
                key: dependency.key.clone(),
                user: dependency.user.clone(),
                port: dependency.port,
            }
        })
    }

    /// Returns the pins, including previous pins of requests that currently need no node port.
    fn finish(mut self) -> Pins {
        let not_needed = |request: &&PortRequest| request.requirement == PortRequirement::NotNeeded;
        for request in self.requests.clone().into_iter().filter(not_needed) {
            if let Some((port, from)) = self.input.previous.get(&request.key)
                && self.is_available(request, port)
            {
                self.assign(request, port, from);
            }
        }
        self.pins
    }
}

/// A port that is assigned to one managed Service and still in use by another.
struct PortDependency<'a> {
    key: &'a PortKey,
    user: &'a PortKey,
    port: u16,
}

impl PortDependency<'_> {
    /// Returns whether the user of the port depends, directly or indirectly, on a port of this Service.
    fn is_in_cycle(&self, all: &[PortDependency<'_>]) -> bool {
        let mut visited = BTreeSet::new();
        let mut next = vec![service(self.user)];
        while let Some(current) = next.pop() {
            if visited.insert(current) {
                let dependencies = all.iter().filter(|dependency| service(dependency.key) == current);
                next.extend(dependencies.map(|dependency| service(dependency.user)));
            }
        }
        visited.contains(&service(self.key))
    }
}

fn service(key: &PortKey) -> (&str, &str) {
    (&key.namespace, &key.service)
}

/// Identifies a port of a Service regardless of its protocol.
fn service_port(request: &PortRequest) -> (&str, &str, u16) {
    (&request.key.namespace, &request.key.service, request.port)
}

/// The API server accepts the same node port for two ports of a Service if their protocols differ.
fn can_share(a: &PortRequest, b: &PortRequest) -> bool {
    service(&a.key) == service(&b.key) && a.port != 0 && b.port != 0 && a.protocol != b.protocol
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
