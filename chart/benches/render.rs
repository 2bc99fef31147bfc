//! Measures rendering of Istio's charts, parsed ("warm") and from files ("cold"), in comparison with `helm template`.
//! Needs the lab (`make lab`).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed expectation aborts the benchmark"
)]

#[allow(dead_code, reason = "used by the differential test")]
#[path = "../tests/lab/mod.rs"]
mod lab;

use std::{hint::black_box, time::Instant};

use criterion::Criterion;
use lab::{CHARTS, KUBE_VERSION, Lab, capabilities, release};
use meshwright_chart::{Chart, Limits, documents};
use serde_json::json;

fn render(chart: &Chart, name: &str, namespace: &str) -> usize {
    let rendered = chart
        .render(&release(name, namespace), &json!({}), &capabilities(KUBE_VERSION), &Limits::default())
        .expect("the chart renders");
    rendered.iter().map(|rendered| rendered.text.len()).sum()
}

fn main() {
    let lab = Lab::find();
    let mut criterion = Criterion::default().configure_from_args().sample_size(20);
    let charts: Vec<Chart> = CHARTS.iter().map(|(_, directory, ..)| lab.chart(directory)).collect();
    for (chart, (name, directory, release_name, namespace)) in charts.iter().zip(CHARTS) {
        criterion
            .bench_function(&format!("{name} warm"), |b| b.iter(|| render(black_box(chart), release_name, namespace)));
        criterion.bench_function(&format!("{name} cold"), |b| {
            b.iter(|| render(&lab.chart(black_box(directory)), release_name, namespace));
        });
    }
    let installation =
        || charts.iter().zip(CHARTS).take(3).map(|(chart, (_, _, name, ns))| render(chart, name, ns)).sum::<usize>();
    criterion.bench_function("base + istiod + gateway warm", |b| b.iter(installation));
    let (_, _, base, namespace) = CHARTS[0];
    let crds = charts[0].render(&release(base, namespace), &json!({}), &capabilities(KUBE_VERSION), &Limits::default());
    let crds = crds.expect("the chart renders");
    criterion.bench_function("base to objects", |b| {
        b.iter(|| crds.iter().flat_map(documents).flatten().count());
    });
    criterion.final_summary();

    let values = lab.write_values("none", &json!({}));
    for (name, directory, release_name, namespace) in CHARTS {
        let started = Instant::now();
        for _ in 0..10 {
            lab.helm_template((name, directory, release_name, namespace, KUBE_VERSION), &values).expect("helm renders");
        }
        println!("helm template {name}: {:.1} ms a run", started.elapsed().as_secs_f64() * 100.0);
    }
}
