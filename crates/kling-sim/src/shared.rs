//! The world as all connections share it: behind one lock, moved by Tokio's clock.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::world::World;

/// How the API behaves beside what the world decides.
#[derive(Clone, Debug)]
pub(crate) struct ApiSettings {
    /// The token that every call must carry.
    pub(crate) token: String,
    /// Whether JSON is compressed for clients that accept gzip.
    pub(crate) compresses: bool,
    /// Time between two events of `POST /mcp`.
    pub(crate) mcp_pause: Duration,
}

/// The world behind its lock, with the clock that moves it.
#[derive(Debug)]
pub(crate) struct Shared {
    world: Mutex<World>,
    started: Instant,
    pub(crate) settings: ApiSettings,
}

impl Shared {
    pub(crate) fn new(world: World, settings: ApiSettings) -> Self {
        Self {
            world: Mutex::new(world),
            started: Instant::now(),
            settings,
        }
    }

    pub(crate) fn token(&self) -> &str {
        &self.settings.token
    }

    /// Calls `visit` with the world as it is now.
    pub(crate) fn visit<T>(&self, visit: impl FnOnce(&mut World) -> T) -> T {
        let mut world = self.world.lock();
        // Read under the lock, so that time never runs backwards between two visits.
        world.advance_to(self.started.elapsed());
        visit(&mut world)
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::world::{JobDuration, Settings};

    #[tokio::test(start_paused = true)]
    async fn a_job_is_submitted_then_processing_then_done_on_the_clock_of_tokio() {
        let api = ApiSettings {
            token: String::new(),
            compresses: false,
            mcp_pause: Duration::ZERO,
        };
        let minute = Duration::from_secs(60);
        let settings = Settings {
            job_duration: JobDuration::between(minute, minute),
            ..Settings::default()
        };
        let shared = Shared::new(World::new(settings, Timestamp::UNIX_EPOCH), api);
        shared.visit(|world| world.set_account("a@x".to_owned(), 1));
        let id = shared.visit(|world| world.submit_directly("a@x")).unwrap();
        let mut seen = Vec::new();
        for wait in [0, 5, 1, 53, 1] {
            tokio::time::advance(Duration::from_secs(wait)).await;
            let task = shared.visit(|world| world.task("a@x", id)).unwrap();
            let executing = shared.visit(|world| world.executing("a@x"));
            let work_count = task["works"].as_array().unwrap().len();
            seen.push((
                task["status"].as_u64().unwrap(),
                task["etaTime"].clone(),
                executing,
                work_count,
            ));
        }
        let expected = [
            (5, json!(60), 1, 0),
            (5, json!(55), 1, 0),
            (10, json!(54), 1, 0),
            (10, json!(1), 1, 0),
            (99, json!(0), 0, 1),
        ];
        assert_eq!(seen, expected);
    }
}
