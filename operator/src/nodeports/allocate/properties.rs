//! Property tests of the allocation.

use meshwright_api::{NodePortRangeSource, Protocol};
use proptest::prelude::*;

use super::*;
use crate::nodeports::range::PortRange;

/// A cluster with gateways, other Services and previous pins.
#[derive(Clone, Debug)]
struct AllocationScenario {
    range: KnownRange,
    reserved: Vec<PortRange>,
    requests: Vec<PortRequest>,
    previous: Pins,
    used: Vec<UsedPort>,
}

impl AllocationScenario {
    fn allocate(&self) -> Result<Pins, Vec<AllocationError>> {
        let Self { range, reserved, requests, previous, used } = self;
        allocate(&AllocationInput { range, reserved, requests, previous, used })
    }
}

const FIRST: u16 = 30400;

fn key(service: u8, port: u8) -> PortKey {
    PortKey { namespace: "edge".into(), service: format!("gw{service}"), port_name: format!("p{port}") }
}

/// Requests with unique keys. Ports 0 and 1 of a Service are the same port with two protocols.
fn requests() -> impl Strategy<Value = Vec<PortRequest>> {
    let requirement = prop_oneof![
        4 => Just(PortRequirement::Assign),
        1 => Just(PortRequirement::NotNeeded),
        1 => (FIRST..FIRST + 24).prop_map(PortRequirement::Explicit),
    ];
    let keys = prop::collection::btree_map((0..5u8, 0..4u8), requirement, 0..12);
    keys.prop_map(|keys| {
        let request = |((service, port), requirement): ((u8, u8), PortRequirement)| PortRequest {
            key: key(service, port),
            port: if port < 2 { 443 } else { 8000 + u16::from(port) },
            protocol: if port == 1 { Protocol::Udp } else { Protocol::Tcp },
            requirement,
        };
        keys.into_iter().map(request).collect()
    })
}

fn previous() -> impl Strategy<Value = Pins> {
    prop::collection::btree_map((0..6u8, 0..4u8), FIRST - 3..FIRST + 30, 0..8).prop_map(|keys| {
        let mut pins = Pins::default();
        for ((service, port), number) in keys {
            pins.insert(key(service, port), number, PinOrigin::Assigned);
        }
        pins
    })
}

/// Used ports with unique numbers, as the API server ensures, of gateways and other Services.
fn used() -> impl Strategy<Value = Vec<UsedPort>> {
    let user = prop_oneof![
        (0..6u8, 0..4u8).prop_map(|(service, port)| (key(service, port), true)),
        (0..9u8).prop_map(|n| (
            PortKey { namespace: "shop".into(), service: format!("web{n}"), port_name: "http".into() },
            false
        )),
    ];
    prop::collection::btree_map(FIRST - 3..FIRST + 30, user, 0..10).prop_map(|ports| {
        let mut keys = BTreeSet::new();
        let all = ports.into_iter().map(|(port, (key, own))| UsedPort { port, key, own });
        all.filter(|used| keys.insert(used.key.clone())).collect()
    })
}

prop_compose! {
    fn scenario()(
        size in 1..32u16,
        reserved in prop::collection::vec((FIRST..FIRST + 30, 0..3u16), 0..3),
        requests in requests(),
        previous in previous(),
        used in used(),
    ) -> AllocationScenario {
        let range = PortRange::new(FIRST, FIRST + size - 1).unwrap();
        AllocationScenario {
            range: KnownRange { range, source: NodePortRangeSource::Discovered, server: Some(range), note: None },
            reserved: reserved.into_iter().map(|(first, more)| PortRange::new(first, first + more).unwrap()).collect(),
            requests,
            previous,
            used,
        }
    }
}

/// Ranges of API servers, from single ports to all ports.
fn any_range() -> impl Strategy<Value = PortRange> {
    let ends = prop_oneof![
        Just((1u16, 65535u16)),
        (1..2000u16, 1..3000u16).prop_map(|(first, more)| (first, first + more)),
        (29990..30010u16, 0..40u16).prop_map(|(first, more)| (first, first + more)),
        (32750..32780u16, 0..40u16).prop_map(|(first, more)| (first, first + more)),
        (1..=65535u16, 1..=65535u16).prop_map(|(a, b)| (a.min(b), a.max(b))),
    ];
    ends.prop_map(|(first, last)| PortRange::new(first, last).unwrap())
}

fn request_of<'a>(scenario: &'a AllocationScenario, key: &PortKey) -> &'a PortRequest {
    scenario.requests.iter().find(|request| request.key == *key).unwrap()
}

fn is_needed(scenario: &AllocationScenario, key: &PortKey) -> bool {
    request_of(scenario, key).requirement != PortRequirement::NotNeeded
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn assigned_ports_are_valid_and_unique(scenario in scenario()) {
        let Ok(pins) = scenario.allocate() else { return Ok(()) };
        prop_assert!(pins.cover(&scenario.requests));
        let mut assigned: BTreeMap<u16, Vec<&PortRequest>> = BTreeMap::new();
        for (key, port, _) in pins.iter() {
            prop_assert!(scenario.range.range.contains(port));
            prop_assert!(!scenario.reserved.iter().any(|range| range.contains(port)));
            let foreign = scenario.used.iter().filter(|used| !used.own);
            prop_assert!(!foreign.into_iter().any(|used| used.port == port), "{port}");
            assigned.entry(port).or_default().push(request_of(&scenario, key));
        }
        for sharing in assigned.values() {
            let same_service = sharing.windows(2).all(|pair| service(&pair[0].key) == service(&pair[1].key));
            let protocols: BTreeSet<Protocol> = sharing.iter().map(|request| request.protocol).collect();
            prop_assert!(same_service && protocols.len() == sharing.len(), "{sharing:?}");
        }
    }

    #[test]
    fn result_is_independent_of_order(
        (scenario, shuffled) in scenario().prop_flat_map(|scenario| {
            let requests = Just(scenario.requests.clone()).prop_shuffle();
            let used = Just(scenario.used.clone()).prop_shuffle();
            (Just(scenario), (requests, used))
        })
    ) {
        let (requests, used) = shuffled;
        prop_assert_eq!(AllocationScenario { requests, used, ..scenario.clone() }.allocate(), scenario.allocate());
    }

    #[test]
    fn allocation_is_idempotent(scenario in scenario()) {
        let Ok(pins) = scenario.allocate() else { return Ok(()) };
        prop_assert_eq!(AllocationScenario { previous: pins.clone(), ..scenario }.allocate(), Ok(pins));
    }

    #[test]
    fn pins_are_recovered_from_services(scenario in scenario()) {
        let Ok(pins) = scenario.allocate() else { return Ok(()) };
        let mut used: Vec<UsedPort> = scenario.used.iter().filter(|used| !used.own).cloned().collect();
        let active = pins.iter().filter(|(key, ..)| is_needed(&scenario, key));
        used.extend(active.map(|(key, port, _)| UsedPort { port, key: key.clone(), own: true }));
        let again = AllocationScenario { previous: Pins::default(), used, ..scenario.clone() }.allocate().unwrap();
        for (key, port, _) in again.iter() {
            prop_assert_eq!(pins.get(key).map(|(port, _)| port), Some(port));
        }
    }

    #[test]
    fn other_gateways_keep_their_ports(scenario in scenario(), removed in 0..5u8) {
        let Ok(all) = scenario.allocate() else { return Ok(()) };
        let removed = format!("gw{removed}");
        let (remaining, added): (Vec<PortRequest>, Vec<PortRequest>) =
            scenario.requests.iter().cloned().partition(|request| request.key.service != removed);
        let before = AllocationScenario { requests: remaining, previous: all.clone(), ..scenario.clone() }.allocate().unwrap();
        for (key, port, _) in before.iter().filter(|(key, ..)| is_needed(&scenario, key)) {
            prop_assert_eq!(all.get(key).map(|(port, _)| port), Some(port), "a gateway was removed");
        }
        // Only explicit ports can displace pinned ports.
        if added.iter().any(|request| matches!(request.requirement, PortRequirement::Explicit(_))) {
            return Ok(());
        }
        let Ok(after) = AllocationScenario { previous: before.clone(), ..scenario.clone() }.allocate() else { return Ok(()) };
        for (key, port, _) in before.iter().filter(|(key, ..)| is_needed(&scenario, key)) {
            prop_assert_eq!(after.get(key).map(|(port, _)| port), Some(port), "a gateway was added");
        }
    }

    #[test]
    fn never_chooses_ports_of_nodes(range in any_range(), number in 1..40u16, taken in 0..60u16) {
        let known = KnownRange { range, source: NodePortRangeSource::Discovered, server: Some(range), note: None };
        let requests: Vec<PortRequest> = (0..number)
            .map(|n| PortRequest {
                key: PortKey { namespace: "edge".into(), service: "gw".into(), port_name: format!("p{n}") },
                port: 1000 + n,
                protocol: Protocol::Tcp,
                requirement: PortRequirement::Assign,
            })
            .collect();
        let usual = range.intersection(PortRange::KUBERNETES);
        let used: Vec<UsedPort> = usual
            .into_iter()
            .flat_map(PortRange::ports)
            .take(usize::from(taken))
            .map(|port| UsedPort {
                port,
                key: PortKey { namespace: "shop".into(), service: format!("web{port}"), port_name: "http".into() },
                own: false,
            })
            .collect();
        let previous = Pins::default();
        let input =
            AllocationInput { range: &known, reserved: &[], requests: &requests, previous: &previous, used: &used };
        let free = usual.map_or(0, PortRange::size) - used.len();
        let Ok(pins) = allocate(&input) else {
            prop_assert!(free < requests.len());
            return Ok(());
        };
        let ports: Vec<u16> = pins.iter().map(|(_, port, _)| port).collect();
        for port in &ports {
            prop_assert!(range.contains(*port) && *port >= 1024 && !is_port_of_nodes(*port), "{port}");
        }
        let outside = ports.iter().filter(|port| !PortRange::KUBERNETES.contains(**port)).count();
        prop_assert_eq!(outside, requests.len().saturating_sub(free), "only when the default range is full");
    }

    #[test]
    fn fails_only_without_free_ports(scenario in scenario()) {
        let Err(errors) = scenario.allocate() else { return Ok(()) };
        for error in errors {
            if let AllocationError::Exhausted { needed, free, .. } = error {
                prop_assert!(needed > free, "{needed} of {free}");
            }
        }
    }
}
