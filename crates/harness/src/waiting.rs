use std::time::Duration;

use tokio::{task, time};

/// How long a test waits for what must happen: generous, since it only ends tests that fail.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// Longer than any test: whatever has to wait for it happens for another reason.
pub const NEVER: Duration = Duration::from_secs(3600);

/// Repeats `probe` until it finds what it looks for. Each probe is a round trip, which lets the
/// other side run; nothing is assumed about how long anything takes.
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

/// Ends a test that waits for what does not happen.
pub async fn within<F: Future>(future: F) -> F::Output {
    time::timeout(PATIENCE, future)
        .await
        .expect("it never happened")
}
