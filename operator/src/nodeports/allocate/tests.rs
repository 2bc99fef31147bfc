//! The choice, case by case.

use meshwright_api::{NodePortRangeSource, Protocol};

use super::*;

pub(super) fn range(text: &str) -> KnownRange {
    KnownRange { range: text.parse().unwrap(), source: NodePortRangeSource::Discovered, note: None }
}

/// A slot written as `service/port`, in one namespace.
pub(super) fn slot(text: &str) -> Slot {
    let (service, port_name) = text.split_once('/').unwrap();
    Slot { namespace: "edge".into(), service: service.into(), port_name: port_name.into() }
}

fn want(text: &str, port: u16, need: Need) -> Want {
    Want { slot: slot(text), port, protocol: Protocol::Tcp, need }
}

/// The usual three ports of a gateway.
fn gateway(name: &str, need: Need) -> Vec<Want> {
    [("status-port", 15021), ("http2", 80), ("https", 443)]
        .map(|(port_name, port)| want(&format!("{name}/{port_name}"), port, need))
        .into()
}

fn held(text: &str, port: u16) -> Held {
    Held { port, slot: slot(text), ours: false }
}

/// What is given, in the order of ports.
struct Case<'a> {
    range: &'a str,
    reserved: &'a [&'a str],
    remembered: Pins,
    held: Vec<Held>,
}

impl Default for Case<'_> {
    fn default() -> Self {
        Self { range: "30400-30449", reserved: &[], remembered: Pins::default(), held: Vec::new() }
    }
}

impl Case<'_> {
    fn pins(&self, wanted: &[Want]) -> Result<Pins, Vec<Refused>> {
        let reserved: Vec<PortRange> = self.reserved.iter().map(|text| text.parse().unwrap()).collect();
        let range = range(self.range);
        let question =
            Question { range: &range, reserved: &reserved, wanted, remembered: &self.remembered, held: &self.held };
        allocate(&question)
    }

    fn of(&self, wanted: &[Want]) -> Vec<(String, u16)> {
        listed(&self.pins(wanted).unwrap())
    }

    fn refused(&self, wanted: &[Want]) -> String {
        super::super::refused::blocker(&self.pins(wanted).unwrap_err()).message
    }
}

fn listed(pins: &Pins) -> Vec<(String, u16)> {
    pins.iter().map(|(slot, port, _)| (format!("{}/{}", slot.service, slot.port_name), port)).collect()
}

fn listing(expected: &[(&str, u16)]) -> Vec<(String, u16)> {
    expected.iter().map(|(slot, port)| ((*slot).to_owned(), *port)).collect()
}

#[test]
fn the_lowest_free_ports_are_chosen_service_by_service() {
    let wanted = [gateway("b", Need::Choose), gateway("a", Need::Choose)].concat();
    let case = Case { reserved: &["30402"], held: vec![held("web/http", 30400)], ..Case::default() };
    assert_eq!(
        case.of(&wanted),
        listing(&[
            ("a/http2", 30401),
            ("a/https", 30403),
            ("a/status-port", 30404),
            ("b/http2", 30405),
            ("b/https", 30406),
            ("b/status-port", 30407),
        ])
    );
}

#[test]
fn what_is_remembered_stays_whatever_joins_before_it() {
    let before = Case::default().pins(&gateway("b", Need::Choose)).unwrap();
    let wanted = [gateway("a", Need::Choose), gateway("b", Need::Choose)].concat();
    let after = Case { remembered: before.clone(), ..Case::default() }.pins(&wanted).unwrap();
    for (slot, port, _) in before.iter() {
        assert_eq!(after.get(slot).map(|(port, _)| port), Some(port));
    }
}

#[test]
fn a_service_keeps_what_it_holds_when_nothing_is_remembered() {
    let held = vec![held("a/http2", 30444), held("a/https", 30445)];
    let chosen = Case { held, ..Case::default() }.of(&gateway("a", Need::Choose));
    assert_eq!(chosen, listing(&[("a/http2", 30444), ("a/https", 30445), ("a/status-port", 30400)]));
}

#[test]
fn a_gateway_that_needs_no_ports_for_a_while_gets_the_same_ones_back() {
    let first = Case::default().pins(&gateway("a", Need::Choose)).unwrap();
    let idle = [gateway("a", Need::Idle), gateway("b", Need::Choose)].concat();
    let meanwhile = Case { remembered: first.clone(), ..Case::default() }.pins(&idle).unwrap();
    let again = Case { remembered: meanwhile, ..Case::default() }.pins(&gateway("a", Need::Choose)).unwrap();
    assert_eq!(again, first);
}

#[test]
fn ports_that_are_only_remembered_are_given_away_before_anything_is_refused() {
    let remembered = Case { range: "30400-30402", ..Case::default() }.pins(&gateway("a", Need::Choose)).unwrap();
    let wanted = [gateway("a", Need::Idle), gateway("b", Need::Choose)].concat();
    let case = Case { range: "30400-30402", remembered, ..Case::default() };
    assert_eq!(case.of(&wanted), listing(&[("b/http2", 30400), ("b/https", 30401), ("b/status-port", 30402)]));
}

#[test]
fn an_explicit_port_wins_over_one_that_was_chosen() {
    let remembered = Case::default().pins(&[want("a/http2", 80, Need::Choose)]).unwrap();
    let wanted = [want("a/http2", 80, Need::Choose), want("b/http2", 80, Need::Explicit(30400))];
    let case = Case { remembered, held: vec![held("a/http2", 30400)], ..Case::default() };
    assert_eq!(case.of(&wanted), listing(&[("a/http2", 30401), ("b/http2", 30400)]));
}

#[test]
fn a_port_that_lost_its_explicit_number_keeps_it() {
    let explicit = Case::default().pins(&[want("a/http2", 80, Need::Explicit(30410))]).unwrap();
    let case = Case { remembered: explicit, ..Case::default() };
    let chosen = case.pins(&[want("a/http2", 80, Need::Choose)]).unwrap();
    assert_eq!(chosen.get(&slot("a/http2")), Some((30410, Origin::Assigned)));
}

#[test]
fn a_remembered_port_that_another_service_took_or_the_spec_reserves_is_replaced() {
    let remembered = Case::default().pins(&gateway("a", Need::Choose)).unwrap();
    let held = vec![held("web/http", 30400)];
    let case = Case { remembered, held, reserved: &["30401"], ..Case::default() };
    let chosen = case.of(&gateway("a", Need::Choose));
    assert_eq!(chosen, listing(&[("a/http2", 30403), ("a/https", 30404), ("a/status-port", 30402)]));
}

#[test]
fn both_protocols_of_a_port_share_a_number_and_nothing_else_does() {
    let udp = Want { protocol: Protocol::Udp, ..want("a/http3", 443, Need::Choose) };
    let wanted = [want("a/https", 443, Need::Choose), udp.clone(), want("b/https", 443, Need::Choose)];
    let shared = listing(&[("a/http3", 30400), ("a/https", 30400), ("b/https", 30401)]);
    assert_eq!(Case::default().of(&wanted), shared);
    let explicit = [want("b/https", 443, Need::Explicit(30400)), Want { need: Need::Explicit(30400), ..udp }];
    assert!(Case::default().refused(&explicit).contains("asked for by port"));
}

#[test]
fn exactly_enough_is_enough_and_one_fewer_says_how_many_are_missing() {
    let wanted = gateway("a", Need::Choose);
    assert_eq!(Case { range: "30400-30402", ..Case::default() }.of(&wanted).len(), 3);
    let case =
        Case { range: "30400-30403", reserved: &["30401"], held: vec![held("web/http", 30400)], ..Case::default() };
    assert_eq!(
        case.refused(&wanted),
        "spec.gateways: 3 node ports have to be chosen and 2 are free in 30400-30403, the API server's range: 4 in all, \
         of which 1 are held by other Services and 1 are reserved: free some, use fewer ports, or set \
         allocateLoadBalancerNodePorts to false where the load balancer needs none"
    );
}

#[test]
fn an_explicit_port_that_cannot_be_had_is_refused_with_field_value_and_holder() {
    let case = Case { reserved: &["30410-30419"], held: vec![held("web/http", 30402)], ..Case::default() };
    let refused = |port: u16| case.refused(&[want("a/http2", 80, Need::Explicit(port))]);
    let field = "spec.gateways[a].service.ports[http2].nodePort";
    assert_eq!(
        refused(31380),
        format!(
            "{field}: 31380 is not inside 30400-30449, the API server's range: choose one that is, or leave it out"
        )
    );
    assert_eq!(
        refused(30415),
        format!(
            "{field}: 30415 is reserved by 30410-30419 in spec.nodePorts.reserved: choose another, or take it out there"
        )
    );
    assert_eq!(
        refused(30402),
        format!("{field}: 30402 is held by Service edge/web/http: choose another, or free it there")
    );
}

#[test]
fn two_gateways_that_ask_for_one_port_are_both_named() {
    let wanted = [want("a/http2", 80, Need::Explicit(30401)), want("b/web", 81, Need::Explicit(30401))];
    assert_eq!(
        Case::default().refused(&wanted),
        "spec.gateways[b].service.ports[web].nodePort: 30401 is asked for by port http2 of gateway a too: choose another"
    );
}

#[test]
fn gateways_cannot_exchange_their_ports_but_one_may_follow_another() {
    let all = vec![held("a/x", 30401), held("b/x", 30402), held("c/x", 30403)];
    let case = Case { held: all, ..Case::default() };
    let explicit = |ports: [u16; 3]| -> Vec<Want> {
        ["a/x", "b/x", "c/x"].into_iter().zip(ports).map(|(slot, port)| want(slot, 80, Need::Explicit(port))).collect()
    };
    assert!(case.pins(&explicit([30402, 30403, 30404])).is_ok());
    assert_eq!(
        case.refused(&explicit([30402, 30403, 30401])),
        "spec.gateways[a].service.ports[x].nodePort: 30402 is held by port x of gateway b, and the two can't exchange \
         ports in one step: move one of them to a free port first"
    );
    // What is only chosen keeps out of the way.
    let case = Case { held: vec![held("a/x", 30400), held("b/x", 30401)], ..Case::default() };
    let wanted = [want("a/x", 80, Need::Choose), want("b/x", 80, Need::Explicit(30400))];
    assert_eq!(case.of(&wanted), listing(&[("a/x", 30402), ("b/x", 30400)]));
}

#[test]
fn everything_that_is_wrong_is_told_at_once() {
    let wanted = [want("a/x", 80, Need::Explicit(1)), want("b/y", 80, Need::Explicit(2))];
    assert_eq!(Case::default().pins(&wanted).unwrap_err().len(), 2);
}

#[test]
fn what_a_service_of_ours_holds_that_has_to_go_is_taken_last() {
    let ours = |port| Held { ours: true, ..held("old/http2", port) };
    let case = Case { range: "30400-30402", held: vec![ours(30400)], ..Case::default() };
    assert_eq!(case.of(&[want("a/http2", 80, Need::Choose)]), listing(&[("a/http2", 30401)]));
    let all = case.of(&gateway("a", Need::Choose));
    assert_eq!(all, listing(&[("a/http2", 30401), ("a/https", 30402), ("a/status-port", 30400)]));
    assert_eq!(case.of(&[want("a/http2", 80, Need::Explicit(30400))]), listing(&[("a/http2", 30400)]));
}
