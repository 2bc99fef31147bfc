//! The operator behind a proxy that lets requests fail and delays them.

use std::time::{Duration, Instant};

use kube::api::DeleteParams;
use meshwright_api::conditions::{ConditionType, get};
use meshwright_e2e::crash::{FaultRule, InjectedError, OperatorProcess, ReplicaOptions};
use meshwright_e2e::mesh::{Mesh, NAME, demo_spec, describe};
use meshwright_e2e::{LabOptions, TestResult, run, wait};

const SEED: u64 = 15;
/// Delay of each request while requests fail.
const LATENCY: Duration = Duration::from_millis(200);

/// Installs and uninstalls a mesh with a new process, and returns how long the mesh took to be Ready.
async fn install(operator: &mut OperatorProcess, mesh: &Mesh, rules: Vec<FaultRule>) -> TestResult<Duration> {
    operator.replace().await?;
    operator.wait_synced().await?;
    operator.faults().set(SEED, rules);
    let mut spec = demo_spec();
    // The next installation creates the CRDs, too.
    spec["deletion"] = serde_json::json!({"crds": "Delete"});
    let started = Instant::now();
    mesh.apply(NAME, spec).await?;
    let ready = mesh.wait_ready(NAME).await;
    let time = started.elapsed();
    operator.faults().clear();
    ready.map_err(|error| format!("{error}\n{}", operator.log_tail()))?;
    mesh.delete(NAME, &DeleteParams::default()).await?;
    Ok(time)
}

#[test]
fn installs_despite_failing_and_slow_requests() {
    run(LabOptions::default().needs_own_lab(), async |lab| {
        let mut operator = OperatorProcess::install(lab).await?;
        let mesh = Mesh::connect(lab.client());
        let undisturbed = install(&mut operator, &mesh, Vec::new()).await?;
        eprintln!("Ready after {:.1} s without errors", undisturbed.as_secs_f64());
        for (error_rate, factor) in [(0.1, 4), (0.25, 20)] {
            let time = install(&mut operator, &mesh, vec![FaultRule::unreliable(error_rate, LATENCY)]).await?;
            let (errors, ratio) = (operator.faults().injected(), time.as_secs_f64() / undisturbed.as_secs_f64());
            eprintln!(
                "Ready after {:.1} s with {:.0} % errors ({errors}) and 200 ms latency: {ratio:.1} times as long",
                time.as_secs_f64(),
                error_rate * 100.0,
            );
            assert!(errors > 5, "the proxy should inject errors: {errors}");
            assert!(time <= undisturbed * factor, "{time:?}, without errors {undisturbed:?}; limit: {factor} times");
        }
        Ok(())
    });
}

#[test]
fn reports_lasting_errors_and_recovers() {
    run(LabOptions::default().needs_own_lab(), async |lab| {
        let failing =
            |rule: FaultRule, error: InjectedError| vec![FaultRule { error_rate: 1.0, errors: vec![error], ..rule }];
        let mut operator = OperatorProcess::prepare(lab, ReplicaOptions::default()).await?;
        let version = FaultRule { path_prefix: "/version".into(), ..FaultRule::default() };
        operator.faults().set(SEED, failing(version, InjectedError::TooManyRequests));
        operator.start()?;
        operator.wait_leading().await?;
        // More than one request with all its retries.
        wait::until(wait::TIMEOUT, "the version to be requested again", async || {
            let injected = operator.faults().injected();
            if injected > 6 { Ok(()) } else { Err(format!("{injected} requests")) }
        })
        .await?;
        assert_eq!(operator.exit_status()?, None, "{}", operator.log_tail());

        let revisions = FaultRule { resource: Some("controllerrevisions".into()), ..FaultRule::default() };
        operator.faults().set(SEED, failing(revisions, InjectedError::FailedBefore));
        let mesh = Mesh::connect(lab.client());
        mesh.apply(NAME, demo_spec()).await?;
        wait::until(wait::TIMEOUT, "the errors in status", async || {
            let found = mesh.installations().get(NAME).await.map_err(|error| error.to_string())?;
            let conditions = found.status.clone().unwrap_or_default().conditions;
            let ready = get(&conditions, ConditionType::Ready);
            let is_reported = ready.is_some_and(|ready| ready.message.contains("ControllerRevision"));
            if is_reported { Ok(()) } else { Err(describe(&found)) }
        })
        .await?;
        operator.faults().clear();
        mesh.wait_ready(NAME).await?;
        Ok(())
    });
}
