//! One timer for many deadlines.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::time::{Instant, Sleep, sleep_until};

/// Says when a deadline has passed: never early, and at once.
///
/// A connection has one for all its requests, most of which are answered long before their deadline. Where a new
/// deadline is later than the last one, the timer is left as it is, and set again only when it fires: a timer for each
/// request took 500 instructions more.
#[derive(Debug, Default)]
pub(super) struct Alarm(Option<Pin<Box<Sleep>>>);

impl Alarm {
    /// Waits until `deadline` has passed.
    pub(super) fn poll_passed(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let new = || Box::pin(sleep_until(deadline));
        let timer = self.0.get_or_insert_with(new);
        if timer.deadline() > deadline {
            timer.as_mut().reset(deadline);
        }
        loop {
            ready!(timer.as_mut().poll(cx));
            if deadline <= Instant::now() {
                return Poll::Ready(());
            }
            timer.as_mut().reset(deadline);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, time::Duration};

    use tokio::time::advance;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// How long it takes until the alarm says that a deadline has passed.
    async fn waited(alarm: &mut Alarm, until: Duration) -> Duration {
        let begun = Instant::now();
        poll_fn(|cx| alarm.poll_passed(cx, begun + until)).await;
        begun.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn an_alarm_is_as_exact_as_a_timer_of_its_own() {
        let mut alarm = Alarm::default();
        for seconds in [3, 5, 2, 2, 9, 1] {
            let until = seconds * SECOND;
            // It was set, and not waited for to the end.
            let asked = tokio::time::timeout(SECOND / 2, waited(&mut alarm, 4 * SECOND));
            assert!(asked.await.is_err());
            assert_eq!(waited(&mut alarm, until).await, until);
            advance(until).await;
        }
    }
}
