//! Memory for bodies that are read whole. It is charged as their bytes arrive.
//!
//! Small bodies have a share of their own, so that large ones never keep them waiting. One body at a time may
//! use a last share, which is as large as any body: so one can always be read to its end, and bodies of which
//! each holds what the others wait for do not wait for each other for ever.

use std::sync::Arc;

use tokio::{
    select,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout},
};

use super::patience::Patience;
use crate::error::Error;

/// The largest body that is small: it holds a prompt, and no picture.
pub(super) const SMALL_BODY_MAX: usize = 64 * 1024;
/// The part of all memory that small bodies have, where that holds one at least: 256 of them with the default.
const SMALL_PART: usize = 16;

/// Memory is counted in pieces of this size.
const PIECE_BYTES: usize = 1024;

/// The memory of all bodies.
#[derive(Debug)]
pub(super) struct BodyMemory {
    small: Arc<Semaphore>,
    shared: Arc<Semaphore>,
    last: Arc<Semaphore>,
    last_pieces: u32,
}

/// The memory of one body. It is free again when this is dropped.
#[derive(Debug, Default)]
pub(super) struct Charge {
    small: Option<OwnedSemaphorePermit>,
    shared: Option<OwnedSemaphorePermit>,
    last: Option<OwnedSemaphorePermit>,
}

impl BodyMemory {
    /// Memory of `total` bytes for bodies of at most `body_max`.
    pub(super) fn new(body_max: usize, total: usize) -> Self {
        let last = pieces(body_max);
        let small = (total / SMALL_PART).max(SMALL_BODY_MAX);
        let all = pieces(total);
        let shared = all.saturating_sub(last).saturating_sub(pieces(small));
        let semaphore = |pieces: u32| Arc::new(Semaphore::new(pieces as usize));
        Self {
            small: semaphore(pieces(small)),
            shared: semaphore(shared),
            last: semaphore(last),
            last_pieces: last,
        }
    }

    /// Charges what a body needs that has grown to `bytes`, at most the largest one. Waits for it for as long as
    /// `patience`, and takes from that what it waited. Cancel-safe.
    ///
    /// # Errors
    /// [`Error::BufferFull`] or [`Error::ShuttingDown`] if there is none.
    pub(super) async fn grow(
        &self,
        charge: &mut Charge,
        bytes: usize,
        patience: &mut Patience,
    ) -> Result<(), Error> {
        if charge.last.is_some() {
            return Ok(());
        }
        let is_small = bytes <= SMALL_BODY_MAX;
        let held = count(&charge.shared) + if is_small { count(&charge.small) } else { 0 };
        let more = pieces(bytes).saturating_sub(held);
        if is_small && let Ok(permit) = Arc::clone(&self.small).try_acquire_many_owned(more) {
            merge(&mut charge.small, permit);
            return Ok(());
        }
        let begun = Instant::now();
        let waited = timeout(patience.left, async {
            select! {
                biased;
                () = patience.shutdown.cancelled() => return Err(Error::ShuttingDown),
                permit = acquire(&self.shared, more) => merge(&mut charge.shared, permit),
                permit = acquire(&self.last, self.last_pieces) => {
                    *charge = Charge { last: Some(permit), ..Charge::default() };
                }
                permit = acquire(&self.small, more), if is_small => merge(&mut charge.small, permit),
            }
            Ok(())
        });
        let grown = waited.await;
        patience.left = patience.left.saturating_sub(begun.elapsed());
        grown.unwrap_or(Err(Error::BufferFull))?;
        if !is_small {
            charge.small = None;
        }
        Ok(())
    }

    /// Frees the last share, if a body of `bytes` that has come whole fits elsewhere now.
    pub(super) fn settle(&self, charge: &mut Charge, bytes: usize) {
        if charge.last.is_none() {
            return;
        }
        let free =
            |share: &Arc<Semaphore>| Arc::clone(share).try_acquire_many_owned(pieces(bytes)).ok();
        let is_small = bytes <= SMALL_BODY_MAX;
        if let Some(small) = is_small.then(|| free(&self.small)).flatten() {
            *charge = Charge {
                small: Some(small),
                ..Charge::default()
            };
        } else if let Some(shared) = free(&self.shared) {
            *charge = Charge {
                shared: Some(shared),
                ..Charge::default()
            };
        }
    }
}

async fn acquire(share: &Arc<Semaphore>, pieces: u32) -> OwnedSemaphorePermit {
    let permit = Arc::clone(share).acquire_many_owned(pieces);
    permit.await.expect("the semaphores are never closed")
}

fn merge(held: &mut Option<OwnedSemaphorePermit>, more: OwnedSemaphorePermit) {
    match held {
        Some(held) => held.merge(more),
        None => *held = Some(more),
    }
}

fn count(held: &Option<OwnedSemaphorePermit>) -> u32 {
    let pieces = held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
    u32::try_from(pieces).unwrap_or(u32::MAX)
}

fn pieces(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(PIECE_BYTES)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio_util::sync::CancellationToken;

    use super::*;

    const KIB: usize = 1024;
    const MIB: usize = 1024 * KIB;

    async fn grow(memory: &BodyMemory, charge: &mut Charge, bytes: usize) -> Result<(), Error> {
        let mut patience = Patience::of(Duration::ZERO);
        memory.grow(charge, bytes, &mut patience).await
    }

    /// Bodies that grow to `bytes` until there is no memory for one more.
    async fn full(memory: &BodyMemory, bytes: usize) -> Vec<Charge> {
        let mut charges = Vec::new();
        loop {
            let mut charge = Charge::default();
            if grow(memory, &mut charge, bytes).await.is_err() {
                return charges;
            }
            charges.push(charge);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn large_bodies_leave_small_ones_their_share_and_all_stay_within_the_total() {
        let memory = BodyMemory::new(MIB, 16 * MIB);
        let large = full(&memory, MIB).await;
        assert_eq!(large.len(), 15, "and a MiB for small ones");
        let small = full(&memory, SMALL_BODY_MAX).await;
        assert_eq!(small.len(), 16);
        drop(large);
        assert_eq!(full(&memory, MIB).await.len(), 15, "it is free again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_is_charged_what_has_come_of_it() {
        let memory = BodyMemory::new(MIB, 16 * MIB);
        let mut charges = Vec::new();
        for _ in 0..1000 {
            let mut charge = Charge::default();
            grow(&memory, &mut charge, 0).await.unwrap();
            charges.push(charge);
        }
        assert_eq!(full(&memory, MIB).await.len(), 15);
        let mut grown = Charge::default();
        for bytes in (0..=MIB).step_by(KIB) {
            grow(&memory, &mut grown, bytes).await.unwrap();
        }
        let large = full(&memory, MIB).await;
        assert_eq!(large.len(), 14);
        assert_eq!(
            full(&memory, SMALL_BODY_MAX).await.len(),
            16,
            "it is not small any more"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_that_wait_for_each_other_are_read_to_their_end_one_by_one() {
        let memory = Arc::new(BodyMemory::new(MIB, 4 * MIB));
        // Each holds a half: there is memory for the other half of none of them but one.
        let mut halves = full(&memory, MIB / 2).await;
        let ended: Vec<_> = halves
            .drain(..)
            .map(|mut charge| {
                let memory = Arc::clone(&memory);
                tokio::spawn(async move {
                    let mut patience = Patience::of(Duration::from_secs(1));
                    memory.grow(&mut charge, MIB, &mut patience).await
                })
            })
            .collect();
        assert!(ended.len() > 4);
        for ended in ended {
            assert!(ended.await.unwrap().is_ok());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_for_memory_counts_and_ends() {
        let memory = BodyMemory::new(MIB, 4 * MIB);
        let taken = full(&memory, MIB).await;
        let mut patience = Patience {
            left: Duration::from_secs(9),
            shutdown: CancellationToken::new(),
        };
        let mut charge = Charge::default();
        let grown = {
            let growing = memory.grow(&mut charge, MIB, &mut patience);
            let freeing = async {
                tokio::time::sleep(Duration::from_secs(4)).await;
                drop(taken);
            };
            tokio::join!(growing, freeing).0
        };
        assert_eq!((grown, patience.left), (Ok(()), Duration::from_secs(5)));
        let _taken = full(&memory, MIB).await;
        let refused = memory
            .grow(&mut Charge::default(), MIB, &mut patience)
            .await;
        assert_eq!(
            (refused, patience.left),
            (Err(Error::BufferFull), Duration::ZERO)
        );
        patience.left = Duration::from_secs(9);
        patience.shutdown.cancel();
        let refused = memory
            .grow(&mut Charge::default(), MIB, &mut patience)
            .await;
        assert_eq!(refused, Err(Error::ShuttingDown));
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_share_is_free_as_soon_as_its_body_fits_elsewhere() {
        let memory = BodyMemory::new(MIB, 4 * MIB);
        let mut full = full(&memory, MIB).await;
        let mut last = full.pop().unwrap();
        assert!(last.last.is_some());
        memory.settle(&mut last, 800 * KIB);
        assert!(last.last.is_some(), "there is no other place");
        full.pop();
        memory.settle(&mut last, 800 * KIB);
        assert_eq!((count(&last.last), count(&last.shared)), (0, 800));
    }
}
