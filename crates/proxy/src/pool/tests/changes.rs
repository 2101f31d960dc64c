//! Which records are said to have changed, whatever the journal has read of them.

use super::{rounds::RECONCILING, *};
use crate::pool::lease::Listed;

/// What can happen to one foreign job and its record, in any order.
#[derive(Clone, Copy, Debug)]
enum Step {
    Come,
    Go,
    /// The names of what has changed are taken for writing.
    Take,
    /// The newest state of what was taken is read, and written.
    Write,
}

const STEPS: [Step; 4] = [Step::Come, Step::Go, Step::Take, Step::Write];
/// Enough for a job that comes and goes twice, and is written between.
const STEPS_COUNT: u32 = 7;

struct Stage {
    pool: Pool,
    job: TaskId,
    taken: Option<Vec<RecordName>>,
    is_in_file: bool,
}

impl Stage {
    fn new() -> Self {
        let mut pool = Pool::new(RECONCILING);
        pool.record_changes();
        Self {
            pool,
            job: "7".parse().unwrap(),
            taken: None,
            is_in_file: false,
        }
    }

    fn step(&mut self, step: Step) {
        let jobs = &mut self.pool.foreign_jobs;
        match step {
            Step::Come => {
                let job = Listed {
                    task_id: self.job.clone(),
                    first_at: None,
                    is_listed: false,
                };
                if !jobs.contains(&self.job) {
                    jobs.add_elsewhere(job, Name::new("a@x"), START);
                }
            }
            Step::Go => drop(jobs.remove(&self.job)),
            Step::Take => {
                self.taken
                    .get_or_insert_with(|| self.pool.take_changed().names().collect());
            }
            Step::Write => {
                for name in self.taken.take().unwrap_or_default() {
                    self.is_in_file = self.pool.record(&name).is_some();
                }
            }
        }
    }
}

#[test]
fn a_foreign_job_is_in_the_file_if_it_is_in_the_pool_whatever_came_between() {
    let sequences = STEPS.len().pow(STEPS_COUNT);
    for sequence in 0..sequences {
        let mut stage = Stage::new();
        let mut left = sequence;
        let mut steps = Vec::new();
        for _ in 0..STEPS_COUNT {
            let step = STEPS[left % STEPS.len()];
            left /= STEPS.len();
            steps.push(step);
            stage.step(step);
        }
        for step in [Step::Write, Step::Take, Step::Write] {
            stage.step(step);
        }
        let is_there = stage.pool.foreign_jobs.contains(&stage.job);
        assert_eq!(stage.is_in_file, is_there, "{steps:?}");
    }
}

#[test]
fn a_foreign_job_that_was_never_read_for_writing_leaves_no_change() {
    let mut stage = Stage::new();
    stage.step(Step::Come);
    stage.step(Step::Go);
    assert!(!stage.pool.has_changed());
}
