//! Polling for a condition with a deadline.

use std::time::{Duration, Instant};

/// Default deadline. It allows for slow machines, so a test reaches it only on failure.
pub const TIMEOUT: Duration = Duration::from_mins(2);

/// The condition didn't occur before the deadline.
#[derive(Debug, thiserror::Error)]
#[error("waited {} s for {what}; last seen: {seen}", after.as_secs())]
pub struct WaitError {
    /// Description of the condition.
    pub what: String,
    /// Time spent waiting.
    pub after: Duration,
    /// Message of the last attempt.
    pub seen: String,
}

/// Calls `attempt` until it returns `Ok`, and returns that value. Its last `Err` describes the observed state in the
/// error after `deadline`, which also interrupts a hanging attempt.
///
/// ```no_run
/// # async fn example(pods: kube::Api<k8s_openapi::api::core::v1::Pod>) -> Result<(), meshwright_e2e::wait::WaitError> {
/// use meshwright_e2e::wait;
/// wait::until(wait::TIMEOUT, "deletion of pod web", async || match pods.get_opt("web").await {
///     Ok(None) => Ok(()),
///     Ok(Some(pod)) => Err(format!("{:?}", pod.status)),
///     Err(error) => Err(error.to_string()),
/// })
/// .await
/// # }
/// ```
pub async fn until<T, F>(deadline: Duration, what: impl Into<String>, mut attempt: F) -> Result<T, WaitError>
where
    F: AsyncFnMut() -> Result<T, String>,
{
    let start = Instant::now();
    let mut seen = "nothing yet".to_owned();
    let tries = async {
        loop {
            match attempt().await {
                Ok(value) => return value,
                Err(now) => seen = now,
            }
            // Leaves the CPU to the awaited process.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    match tokio::time::timeout(deadline, tries).await {
        Ok(value) => Ok(value),
        Err(_) => Err(WaitError { what: what.into(), after: start.elapsed(), seen }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
    }

    #[test]
    fn error_includes_last_attempts_message() {
        let mut tries = 0;
        let never = until(Duration::from_millis(1), "rain", async || -> Result<(), String> {
            tries += 1;
            Err(format!("sun, {tries} times"))
        });
        let error = block_on(never).unwrap_err();
        assert_eq!(error.to_string(), "waited 0 s for rain; last seen: sun, 1 times");
    }

    #[test]
    fn interrupts_hanging_attempt_at_deadline() {
        let hangs =
            until(Duration::from_millis(1), "rain", async || -> Result<(), String> { std::future::pending().await });
        assert_eq!(block_on(hangs).unwrap_err().seen, "nothing yet");
    }
}
