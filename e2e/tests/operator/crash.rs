//! The operator is killed, or its spec changed, at moments that a seed chooses; `make crash-matrix` takes them all.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};

use meshwright_e2e::crash::{Life, Stage, Undisturbed};
use meshwright_e2e::{LabOptions, TestResult, run};

/// `CRASH_SEED`, else another each time.
fn seed() -> TestResult<u64> {
    match std::env::var("CRASH_SEED") {
        Ok(given) => Ok(given.parse()?),
        Err(_) => Ok(RandomState::new().hash_one(0)),
    }
}

#[test]
fn killed_or_changed_at_any_moment_it_ends_as_it_does_undisturbed() {
    let seed = seed().unwrap();
    println!("CRASH_SEED={seed}");
    run(LabOptions::default().needs_own_lab(), async |lab| {
        let mut life = Life::begin(lab).await?;
        let mut was: BTreeMap<Stage, Undisturbed> = BTreeMap::new();
        for stage in [Stage::Install, Stage::Upgrade, Stage::Rollback, Stage::Uninstall] {
            was.insert(stage, life.undisturbed(stage).await?);
        }
        // Set back on the way, it is to end as the upgrade did; a patch takes no fewer writes than half an upgrade.
        let mut upgraded = was[&Stage::Upgrade].clone();
        upgraded.sent /= 2;
        was.insert(Stage::Change, upgraded);
        let mut random = fastrand::Rng::with_seed(seed);
        for stage in [Stage::Install, Stage::Upgrade, Stage::Rollback, Stage::Change, Stage::Uninstall] {
            let was = &was[&stage];
            let writes = random.usize(0..was.sent);
            let verdict = life.disturbed(stage, writes, was, &was.end).await?;
            println!("{verdict}");
            assert!(verdict.is_good(), "CRASH_SEED={seed}\n{}", verdict.report());
        }
        Ok(())
    });
}

#[test]
fn killed_at_any_moment_of_a_canary_one_control_plane_is_left() {
    let seed = seed().unwrap();
    println!("CRASH_SEED={seed}");
    run(LabOptions::default().needs_own_lab(), async |lab| {
        let mut life = Life::begin(lab).await?;
        life.undisturbed(Stage::Install).await?;
        let was = life.undisturbed(Stage::Canary).await?;
        life.undisturbed(Stage::Uninstall).await?;
        life.undisturbed(Stage::Install).await?;
        let writes = fastrand::Rng::with_seed(seed).usize(0..was.sent);
        let verdict = life.disturbed(Stage::Canary, writes, &was, &was.end).await?;
        println!("{verdict}");
        assert!(verdict.is_good(), "CRASH_SEED={seed}\n{}", verdict.report());
        Ok(())
    });
}
