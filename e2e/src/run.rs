//! Runs each test in its own lab on its own thread.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use crate::{Lab, LabError, LabOptions, net};

/// Result of a test's body.
pub type TestResult<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Runs a test in a lab. An error, a panic, or an unexpected exit of a control plane program fails the calling test and
/// prints a dump of the cluster state.
///
/// ```no_run
/// use meshwright_e2e::{LabOptions, run};
/// run(LabOptions::default(), async |lab| {
///     lab.client().apiserver_version().await?;
///     Ok(())
/// });
/// ```
pub fn run<F>(options: LabOptions, test: F)
where
    F: AsyncFnOnce(&mut Lab) -> TestResult + Send,
{
    if Lab::is_external() && options.own {
        eprintln!("skipped: not available on external clusters");
        return;
    }
    let outcome = on_own_thread(|| {
        let runtime = runtime()?;
        let mut lab = runtime.block_on(Lab::start(options)).map_err(|error| error.to_string())?;
        let outcome = catch_unwind(AssertUnwindSafe(|| runtime.block_on(test(&mut lab))));
        let failure = match outcome {
            Ok(Ok(())) => lab.ended_program().map(Failure::Error),
            Ok(Err(error)) => Some(Failure::Error(error.to_string())),
            Err(panic) => Some(Failure::Panic(panic)),
        };
        if failure.is_some() {
            let dump = runtime.block_on(async { tokio::time::timeout(Duration::from_mins(1), lab.dump()).await });
            eprintln!("{}", dump.unwrap_or_else(|_| "the API server didn't respond in time for a dump".to_owned()));
        }
        runtime.block_on(lab.stop());
        failure.map_or(Ok(()), Err)
    });
    fail_with(outcome);
}

/// Runs a test without a cluster, in its own network namespace. An error or a panic fails the calling test.
pub fn run_without_cluster<F>(test: F)
where
    F: AsyncFnOnce() -> TestResult + Send,
{
    let outcome = on_own_thread(|| {
        let runtime = runtime()?;
        net::enter()?;
        runtime.block_on(test()).map_err(|error| Failure::Error(error.to_string()))
    });
    fail_with(outcome);
}

/// Runs `work` in a lab and returns its result; for programs such as the demo.
pub fn with_lab<F, T>(options: LabOptions, work: F) -> TestResult<T>
where
    F: AsyncFnOnce(&mut Lab) -> TestResult<T> + Send,
    T: Send,
{
    let outcome = on_own_thread(|| {
        let runtime = runtime()?;
        let mut lab = runtime.block_on(Lab::start(options)).map_err(|error| error.to_string())?;
        let result = runtime.block_on(work(&mut lab));
        runtime.block_on(lab.stop());
        result.map_err(|error| Failure::Error(error.to_string()))
    });
    outcome.map_err(|failure| match failure {
        Failure::Error(error) => error.into(),
        Failure::Panic(panic) => resume_unwind(panic),
    })
}

/// Fails the calling test if `outcome` is an error.
fn fail_with(outcome: Result<(), Failure>) {
    match outcome {
        Ok(()) => {}
        Err(Failure::Panic(panic)) => resume_unwind(panic),
        Err(Failure::Error(error)) => {
            eprintln!("the test failed: {error}");
            resume_unwind(Box::new(error));
        }
    }
}

enum Failure {
    Error(String),
    Panic(Box<dyn Any + Send>),
}

impl From<String> for Failure {
    fn from(error: String) -> Self {
        Self::Error(error)
    }
}

/// Runs `work` on a new thread, because network namespaces belong to threads: the caller's stays unchanged, and the
/// kernel kills the lab's processes when the thread ends.
fn on_own_thread<T: Send>(work: impl FnOnce() -> Result<T, Failure> + Send) -> Result<T, Failure> {
    std::thread::scope(|scope| {
        let name = std::thread::current().name().unwrap_or("lab").to_owned();
        let thread = std::thread::Builder::new().name(name).spawn_scoped(scope, work);
        match thread {
            Ok(thread) => thread.join().unwrap_or_else(|panic| Err(Failure::Panic(panic))),
            Err(error) => Err(Failure::Error(format!("could not start the lab's thread: {error}"))),
        }
    })
}

/// Creates a current-thread runtime: its blocking threads inherit the network namespace.
fn runtime() -> Result<tokio::runtime::Runtime, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| format!("could not start the lab's runtime: {error}"))
}

impl From<LabError> for Failure {
    fn from(error: LabError) -> Self {
        Self::Error(error.to_string())
    }
}
