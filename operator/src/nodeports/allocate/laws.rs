//! What holds of every choice.

use meshwright_api::{NodePortRangeSource, Protocol};
use proptest::prelude::*;

use super::*;
use crate::nodeports::range::PortRange;

/// A cluster with gateways, other Services and a memory of what was before.
#[derive(Clone, Debug)]
struct World {
    range: KnownRange,
    reserved: Vec<PortRange>,
    wanted: Vec<Want>,
    remembered: Pins,
    held: Vec<Held>,
}

impl World {
    fn choose(&self) -> Result<Pins, Vec<Refused>> {
        let Self { range, reserved, wanted, remembered, held } = self;
        allocate(&Question { range, reserved, wanted, remembered, held })
    }
}

const FIRST: u16 = 30400;

fn slot(service: u8, port: u8) -> Slot {
    Slot { namespace: "edge".into(), service: format!("gw{service}"), port_name: format!("p{port}") }
}

/// One want for each of a few slots; ports 0 and 1 of a Service are one port for two protocols.
fn wanted() -> impl Strategy<Value = Vec<Want>> {
    let need = prop_oneof![
        4 => Just(Need::Choose),
        1 => Just(Need::Idle),
        1 => (FIRST..FIRST + 24).prop_map(Need::Explicit),
    ];
    let slots = prop::collection::btree_map((0..5u8, 0..4u8), need, 0..12);
    slots.prop_map(|slots| {
        let want = |((service, port), need): ((u8, u8), Need)| Want {
            slot: slot(service, port),
            port: if port < 2 { 443 } else { 8000 + u16::from(port) },
            protocol: if port == 1 { Protocol::Udp } else { Protocol::Tcp },
            need,
        };
        slots.into_iter().map(want).collect()
    })
}

fn remembered() -> impl Strategy<Value = Pins> {
    prop::collection::btree_map((0..6u8, 0..4u8), FIRST - 3..FIRST + 30, 0..8).prop_map(|slots| {
        let mut pins = Pins::default();
        for ((service, port), number) in slots {
            pins.insert(slot(service, port), number, Origin::Assigned);
        }
        pins
    })
}

/// Each port has one holder, as the API server sees to: a stranger, or one of the gateways.
fn held() -> impl Strategy<Value = Vec<Held>> {
    let holder = prop_oneof![
        (0..6u8, 0..4u8).prop_map(|(service, port)| (slot(service, port), true)),
        (0..9u8).prop_map(|n| (
            Slot { namespace: "shop".into(), service: format!("web{n}"), port_name: "http".into() },
            false
        )),
    ];
    prop::collection::btree_map(FIRST - 3..FIRST + 30, holder, 0..10).prop_map(|ports| {
        let mut seen = BTreeSet::new();
        let held = ports.into_iter().map(|(port, (slot, ours))| Held { port, slot, ours });
        held.filter(|held| seen.insert(held.slot.clone())).collect()
    })
}

prop_compose! {
    fn world()(
        size in 1..32u16,
        reserved in prop::collection::vec((FIRST..FIRST + 30, 0..3u16), 0..3),
        wanted in wanted(),
        remembered in remembered(),
        held in held(),
    ) -> World {
        let range = PortRange::new(FIRST, FIRST + size - 1).unwrap();
        World {
            range: KnownRange { range, source: NodePortRangeSource::Discovered, note: None },
            reserved: reserved.into_iter().map(|(first, more)| PortRange::new(first, first + more).unwrap()).collect(),
            wanted,
            remembered,
            held,
        }
    }
}

fn need_of<'a>(world: &'a World, slot: &Slot) -> &'a Want {
    world.wanted.iter().find(|want| want.slot == *slot).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn whoever_wants_a_port_gets_one_inside_the_range_that_nobody_else_has_or_reserves(world in world()) {
        let Ok(pins) = world.choose() else { return Ok(()) };
        prop_assert!(pins.cover(&world.wanted));
        let mut given: BTreeMap<u16, Vec<&Want>> = BTreeMap::new();
        for (slot, port, _) in pins.iter() {
            prop_assert!(world.range.range.contains(port));
            prop_assert!(!world.reserved.iter().any(|range| range.contains(port)));
            let strangers = world.held.iter().filter(|held| !held.ours);
            prop_assert!(!strangers.into_iter().any(|held| held.port == port), "{port}");
            given.entry(port).or_default().push(need_of(&world, slot));
        }
        for sharing in given.values() {
            let of_one_service = sharing.windows(2).all(|pair| service(&pair[0].slot) == service(&pair[1].slot));
            let protocols: BTreeSet<Protocol> = sharing.iter().map(|want| want.protocol).collect();
            prop_assert!(of_one_service && protocols.len() == sharing.len(), "{sharing:?}");
        }
    }

    #[test]
    fn the_order_of_gateways_ports_and_services_means_nothing(
        (world, shuffled) in world().prop_flat_map(|world| {
            let (wanted, held) = (Just(world.wanted.clone()).prop_shuffle(), Just(world.held.clone()).prop_shuffle());
            (Just(world), (wanted, held))
        })
    ) {
        let (wanted, held) = shuffled;
        prop_assert_eq!(World { wanted, held, ..world.clone() }.choose(), world.choose());
    }

    #[test]
    fn choosing_again_changes_nothing(world in world()) {
        let Ok(pins) = world.choose() else { return Ok(()) };
        prop_assert_eq!(World { remembered: pins.clone(), ..world }.choose(), Ok(pins));
    }

    #[test]
    fn the_services_themselves_are_memory_enough(world in world()) {
        let Ok(pins) = world.choose() else { return Ok(()) };
        let mut held: Vec<Held> = world.held.iter().filter(|held| !held.ours).cloned().collect();
        let active = pins.iter().filter(|(slot, ..)| need_of(&world, slot).need != Need::Idle);
        held.extend(active.map(|(slot, port, _)| Held { port, slot: slot.clone(), ours: true }));
        let again = World { remembered: Pins::default(), held, ..world.clone() }.choose().unwrap();
        for (slot, port, _) in again.iter() {
            prop_assert_eq!(pins.get(slot).map(|(port, _)| port), Some(port));
        }
    }

    #[test]
    fn whoever_comes_or_goes_moves_nobody_else(world in world(), gone in 0..5u8) {
        let Ok(all) = world.choose() else { return Ok(()) };
        let leaving = format!("gw{gone}");
        let (rest, newcomers): (Vec<Want>, Vec<Want>) =
            world.wanted.iter().cloned().partition(|want| want.slot.service != leaving);
        let before = World { wanted: rest, remembered: all.clone(), ..world.clone() }.choose().unwrap();
        for (slot, port, _) in before.iter().filter(|(slot, ..)| need_of(&world, slot).need != Need::Idle) {
            prop_assert_eq!(all.get(slot).map(|(port, _)| port), Some(port), "one went");
        }
        // An explicit port may push somebody aside; what is only chosen never does.
        if newcomers.iter().any(|want| matches!(want.need, Need::Explicit(_))) {
            return Ok(());
        }
        let Ok(after) = World { remembered: before.clone(), ..world.clone() }.choose() else { return Ok(()) };
        for (slot, port, _) in before.iter().filter(|(slot, ..)| need_of(&world, slot).need != Need::Idle) {
            prop_assert_eq!(after.get(slot).map(|(port, _)| port), Some(port), "one came");
        }
    }

    #[test]
    fn ports_run_out_only_when_none_is_left(world in world()) {
        let Err(refused) = world.choose() else { return Ok(()) };
        for refused in refused {
            if let Refused::Exhausted { needed, free, .. } = refused {
                prop_assert!(needed > free, "{needed} of {free}");
            }
        }
    }
}
