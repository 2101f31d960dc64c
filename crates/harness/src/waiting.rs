use std::time::Duration;

use tokio::{task, time};

/// How long a test waits for what must happen: generous, since it only ends tests that fail.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// Longer than any test. An event that would have to wait for it happens for another reason.
pub const NEVER: Duration = Duration::from_secs(3600);

/// Repeats `probe` until it returns a value. Each probe is a round trip, which lets the other side
/// run; the test assumes nothing about how long it takes.
pub async fn eventually<T>(probe: impl AsyncFn() -> Option<T>) -> T {
    let search = async {
        loop {
            if let Some(found) = probe().await {
                return found;
            }
            task::yield_now().await;
        }
    };
    within(search).await
}

/// Waits for `future`, and ends the test if it does not complete in time.
pub async fn within<F: Future>(future: F) -> F::Output {
    time::timeout(PATIENCE, future)
        .await
        .expect("it never happened")
}
