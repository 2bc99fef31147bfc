//! Measures node port allocation for 200 gateways in Kubernetes' default range, when the range becomes full.

#![allow(missing_docs, clippy::unwrap_used, reason = "criterion's macros lack documentation; benchmarks may panic")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use meshwright::nodeports::{
    AllocationInput, KnownRange, Pins, PortKey, PortRange, PortRequest, UsedPort, allocate, port_requests,
};
use meshwright_api::{MeshInstallationSpec, NodePortRangeSource};
use serde_json::json;

const GATEWAYS: usize = 200;

fn gateways() -> Vec<PortRequest> {
    let gateways: Vec<_> = (0..GATEWAYS)
        .map(|n| json!({"name": format!("gw-{n}"), "service": {"externalTrafficPolicy": "Local"}}))
        .collect();
    let spec: MeshInstallationSpec = serde_json::from_value(json!({"version": "1.31", "gateways": gateways})).unwrap();
    port_requests(&spec, None)
}

/// Ports of other Services, which leave exactly as many as the gateways need.
fn other_services(range: PortRange, needed: usize) -> Vec<UsedPort> {
    let free = range.size() - needed;
    let key =
        |port: u16| PortKey { namespace: "shop".into(), service: format!("web-{port}"), port_name: "http".into() };
    range.ports().take(free).map(|port| UsedPort { port, key: key(port), own: false }).collect()
}

fn allocation(criterion: &mut Criterion) {
    let range =
        KnownRange { range: PortRange::KUBERNETES, source: NodePortRangeSource::Default, server: None, note: None };
    let requests = gateways();
    let held = other_services(range.range, 4 * GATEWAYS);
    let input = |previous| AllocationInput { range: &range, reserved: &[], requests: &requests, previous, used: &held };
    let no_pins = Pins::default();
    let pins = allocate(&input(&no_pins)).unwrap();
    let mut group = criterion.benchmark_group("node ports, 200 gateways, full range");
    group.bench_function("first allocation", |bench| bench.iter(|| allocate(black_box(&input(&no_pins)))));
    group.bench_function("all pinned", |bench| bench.iter(|| allocate(black_box(&input(&pins)))));
    group.finish();
}

criterion_group!(benches, allocation);
criterion_main!(benches);
