//! Delays or drops the events of a watch.

use axum::body::{Body, Bytes};
use futures::{StreamExt as _, stream};
use http::{Method, Uri};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::faults::{FaultRules, WatchFault};

type Event = Result<Bytes, axum::Error>;

/// Forwards the events of a watch as the rules demand when they arrive.
pub(super) fn forward(body: Body, method: Method, uri: Uri, faults: FaultRules) -> Body {
    let (sender, receiver) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut events = body.into_data_stream();
        let mut is_silent = false;
        loop {
            let event = tokio::select! {
                event = events.next() => event,
                () = sender.closed() => return,
            };
            let fault = faults.watch_fault(&method, &uri);
            is_silent |= fault == WatchFault::Silent;
            if is_silent {
                if event.is_none() {
                    // A dead connection has no end either.
                    return sender.closed().await;
                }
                continue;
            }
            let lag = if let WatchFault::Lag(lag) = fault { lag } else { std::time::Duration::ZERO };
            let Some(event) = event else { return };
            if sender.send((Instant::now() + lag, event)).is_err() {
                return;
            }
        }
    });
    Body::from_stream(stream::unfold(receiver, async |mut receiver: mpsc::UnboundedReceiver<(Instant, Event)>| {
        let (due, event) = receiver.recv().await?;
        sleep_until(due).await;
        Some((event, receiver))
    }))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::faults::FaultRule;
    use super::*;

    /// The next event, unless none arrives within a minute.
    async fn next(body: &mut axum::body::BodyDataStream) -> Option<Bytes> {
        let event = tokio::time::timeout(Duration::from_mins(1), body.next()).await.ok()??;
        Some(event.unwrap())
    }

    fn watch(faults: &FaultRules) -> (mpsc::UnboundedSender<Event>, axum::body::BodyDataStream) {
        let (sender, receiver) = mpsc::unbounded_channel::<Event>();
        let events = stream::unfold(receiver, async |mut receiver: mpsc::UnboundedReceiver<Event>| {
            Some((receiver.recv().await?, receiver))
        });
        let uri = "/api/v1/pods?watch=true".parse().unwrap();
        let body = forward(Body::from_stream(events), Method::GET, uri, faults.clone());
        (sender, body.into_data_stream())
    }

    #[tokio::test]
    async fn events_pass_without_rules() {
        let (sender, mut events) = watch(&FaultRules::default());
        sender.send(Ok("one".into())).unwrap();
        assert_eq!(next(&mut events).await.unwrap(), "one");
        drop(sender);
        assert!(events.next().await.is_none());
    }

    #[tokio::test]
    async fn lag_delays_events() {
        let faults = FaultRules::default();
        let lag = Duration::from_millis(100);
        faults.set(1, vec![FaultRule { watches: WatchFault::Lag(lag), ..FaultRule::default() }]);
        let (sender, mut events) = watch(&faults);
        let sent = Instant::now();
        sender.send(Ok("one".into())).unwrap();
        assert_eq!(next(&mut events).await.unwrap(), "one");
        assert!(sent.elapsed() >= lag);
    }

    #[tokio::test]
    async fn silent_watch_stays_silent() {
        let faults = FaultRules::default();
        faults.set(1, vec![FaultRule { watches: WatchFault::Silent, ..FaultRule::default() }]);
        let (sender, mut events) = watch(&faults);
        sender.send(Ok("one".into())).unwrap();
        let wait = Duration::from_millis(50);
        assert!(tokio::time::timeout(wait, events.next()).await.is_err());
        faults.clear();
        sender.send(Ok("two".into())).unwrap();
        drop(sender);
        assert!(tokio::time::timeout(wait, events.next()).await.is_err(), "neither an event nor the end arrives");
    }
}
