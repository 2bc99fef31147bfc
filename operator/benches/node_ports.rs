//! What a choice of node ports costs: 200 gateways on Kubernetes' usual range, all of which is used in the end.

#![allow(missing_docs, clippy::unwrap_used, reason = "criterion's macros make undocumented items; a bench may panic")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use meshwright::nodeports::{Held, KnownRange, Pins, PortRange, Question, Slot, Want, allocate, wanted};
use meshwright_api::{MeshInstallationSpec, NodePortRangeSource};
use serde_json::json;

const GATEWAYS: usize = 200;

fn gateways() -> Vec<Want> {
    let gateways: Vec<_> = (0..GATEWAYS)
        .map(|n| json!({"name": format!("gw-{n}"), "service": {"externalTrafficPolicy": "Local"}}))
        .collect();
    let spec: MeshInstallationSpec = serde_json::from_value(json!({"version": "1.31", "gateways": gateways})).unwrap();
    wanted(&spec, None)
}

/// Strangers that leave exactly as many ports as the gateways need.
fn strangers(range: PortRange, needed: usize) -> Vec<Held> {
    let free = range.size() - needed;
    let slot = |port: u16| Slot { namespace: "shop".into(), service: format!("web-{port}"), port_name: "http".into() };
    range.ports().take(free).map(|port| Held { port, slot: slot(port), ours: false }).collect()
}

fn choices(criterion: &mut Criterion) {
    let range = KnownRange { range: PortRange::KUBERNETES, source: NodePortRangeSource::Default, note: None };
    let wanted = gateways();
    let held = strangers(range.range, 4 * GATEWAYS);
    let question = |remembered| Question { range: &range, reserved: &[], wanted: &wanted, remembered, held: &held };
    let nothing = Pins::default();
    let pins = allocate(&question(&nothing)).unwrap();
    let mut group = criterion.benchmark_group("node ports, 200 gateways, full range");
    group.bench_function("first choice", |bench| bench.iter(|| allocate(black_box(&question(&nothing)))));
    group.bench_function("all remembered", |bench| bench.iter(|| allocate(black_box(&question(&pins)))));
    group.finish();
}

criterion_group!(benches, choices);
criterion_main!(benches);
