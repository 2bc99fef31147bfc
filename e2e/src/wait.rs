//! Waiting for a condition, with a deadline and a last word on what was seen.

use std::time::{Duration, Instant};

/// Long enough for anything in the lab on a slow machine; tests fail by it only when something is broken.
pub const PATIENCE: Duration = Duration::from_mins(2);

/// The condition didn't come.
#[derive(Debug, thiserror::Error)]
#[error("waited {} s for {what}; last seen: {seen}", after.as_secs())]
pub struct WaitError {
    /// What was waited for.
    pub what: String,
    /// How long.
    pub after: Duration,
    /// What the last attempt saw instead.
    pub seen: String,
}

/// Tries until `attempt` returns `Ok`, which it passes on. `Err` says what was seen instead, for the message when
/// `deadline` has passed; an attempt that hangs is cut off there too.
///
/// ```no_run
/// # async fn example(pods: kube::Api<k8s_openapi::api::core::v1::Pod>) -> Result<(), meshwright_e2e::wait::WaitError> {
/// use meshwright_e2e::wait;
/// wait::until(wait::PATIENCE, "the pod web to be gone", async || match pods.get_opt("web").await {
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
            // A moment between two tries, so that what is waited for has the machine to itself.
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
    fn what_the_last_attempt_saw_is_in_the_message() {
        let mut tries = 0;
        let never = until(Duration::from_millis(1), "rain", async || -> Result<(), String> {
            tries += 1;
            Err(format!("sun, {tries} times"))
        });
        let error = block_on(never).unwrap_err();
        assert_eq!(error.to_string(), "waited 0 s for rain; last seen: sun, 1 times");
    }

    #[test]
    fn an_attempt_that_hangs_is_cut_off_at_the_deadline() {
        let hangs =
            until(Duration::from_millis(1), "rain", async || -> Result<(), String> { std::future::pending().await });
        assert_eq!(block_on(hangs).unwrap_err().seen, "nothing yet");
    }
}
