//! Kills the operator, or changes the spec, at random points; `make crash-matrix` tests all points.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};

use meshwright_e2e::crash::{Baseline, Lifecycle, Stage};
use meshwright_e2e::{LabOptions, TestResult, run};

/// Uses `CRASH_SEED`, else a random seed.
fn seed() -> TestResult<u64> {
    match std::env::var("CRASH_SEED") {
        Ok(value) => Ok(value.parse()?),
        Err(_) => Ok(RandomState::new().hash_one(0)),
    }
}

#[test]
fn recovers_from_interruption_at_random_write() {
    let seed = seed().unwrap();
    println!("CRASH_SEED={seed}");
    run(LabOptions::default().needs_own_lab(), async |lab| {
        let mut lifecycle = Lifecycle::start(lab).await?;
        let mut baselines: BTreeMap<Stage, Baseline> = BTreeMap::new();
        for stage in [Stage::Install, Stage::Upgrade, Stage::Rollback, Stage::Uninstall] {
            baselines.insert(stage, lifecycle.run_baseline(stage).await?);
        }
        // A reverted upgrade ends like the upgrade; a patch takes at least half the writes of a minor upgrade.
        let mut upgraded = baselines[&Stage::Upgrade].clone();
        upgraded.sent /= 2;
        baselines.insert(Stage::Revert, upgraded);
        let mut random = fastrand::Rng::with_seed(seed);
        for stage in [Stage::Install, Stage::Upgrade, Stage::Rollback, Stage::Revert, Stage::Uninstall] {
            let baseline = &baselines[&stage];
            let writes = random.usize(0..baseline.sent);
            let result = lifecycle.run_interrupted(stage, writes, baseline, &baseline.snapshot).await?;
            println!("{result}");
            assert!(result.passed(), "CRASH_SEED={seed}\n{}", result.report());
        }
        Ok(())
    });
}

#[test]
fn canary_recovers_from_operator_crash() {
    let seed = seed().unwrap();
    println!("CRASH_SEED={seed}");
    run(LabOptions::default().needs_own_lab(), async |lab| {
        let mut lifecycle = Lifecycle::start(lab).await?;
        lifecycle.run_baseline(Stage::Install).await?;
        let baseline = lifecycle.run_baseline(Stage::Canary).await?;
        lifecycle.run_baseline(Stage::Uninstall).await?;
        lifecycle.run_baseline(Stage::Install).await?;
        let writes = fastrand::Rng::with_seed(seed).usize(0..baseline.sent);
        let result = lifecycle.run_interrupted(Stage::Canary, writes, &baseline, &baseline.snapshot).await?;
        println!("{result}");
        assert!(result.passed(), "CRASH_SEED={seed}\n{}", result.report());
        Ok(())
    });
}
