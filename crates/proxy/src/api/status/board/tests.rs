use std::{
    cell::Cell,
    sync::atomic::{AtomicU64, Ordering},
};

use tokio::{
    task::{JoinSet, yield_now},
    time::{advance, sleep},
};

use super::*;

/// A board, what it shows, and how many texts were made.
#[derive(Default)]
struct World {
    shown: AtomicU64,
    made: AtomicU64,
}

const TOOK: Duration = Duration::from_millis(25);

async fn ask(world: &World, board: &Board<u64>) -> Arc<Text> {
    let seen = || world.shown.load(Ordering::Relaxed);
    let render = || async {
        let text = seen().to_string();
        sleep(TOOK).await;
        world.made.fetch_add(1, Ordering::Relaxed);
        Ok::<_, ()>(vec![text.into()])
    };
    board.newest(seen, render).await.unwrap()
}

fn read(text: Arc<Text>) -> Option<String> {
    let mut text = SharedText::new(text);
    let mut read = Vec::new();
    while let Poll::Ready(Some(piece)) = text.poll_next() {
        read.extend_from_slice(&piece.ok()?);
    }
    Some(String::from_utf8(read).unwrap())
}

#[tokio::test(start_paused = true)]
async fn many_who_ask_at_once_share_one_rendering() {
    let (world, board) = (Arc::<World>::default(), Arc::new(Board::new(1)));
    let mut asking = JoinSet::new();
    for _ in 0..1000 {
        let (world, board) = (Arc::clone(&world), Arc::clone(&board));
        asking.spawn(async move { ask(&world, &board).await });
    }
    let texts = asking.join_all().await;
    assert!(texts.iter().all(|text| Arc::ptr_eq(text, &texts[0])));
    assert_eq!(world.made.load(Ordering::Relaxed), 1);
    advance(10 * REST_MAX).await;
    assert!(Arc::ptr_eq(&ask(&world, &board).await, &texts[0]));
}

#[tokio::test(start_paused = true)]
async fn what_changes_all_the_time_is_rendered_a_twentieth_of_it() {
    let (world, board) = (World::default(), Board::new(1));
    let begun = Instant::now();
    let mut tags = Vec::new();
    while begun.elapsed() < 210 * TOOK {
        world.shown.fetch_add(1, Ordering::Relaxed);
        let text = ask(&world, &board).await;
        tags.push(text.tag().clone());
        advance(Duration::from_millis(1)).await;
    }
    tags.dedup();
    let made = world.made.load(Ordering::Relaxed);
    assert_eq!((made, tags.len()), (10, 10));
}

#[tokio::test(start_paused = true)]
async fn what_changed_while_it_was_rendered_is_rendered_again() {
    let (world, board) = (World::default(), Board::new(1));
    let changing = async {
        sleep(TOOK / 2).await;
        world.shown.store(7, Ordering::Relaxed);
    };
    let (text, ()) = tokio::join!(ask(&world, &board), changing);
    assert_eq!(read(text).unwrap(), "0");
    advance(TOOK * REST_FACTOR).await;
    assert_eq!(read(ask(&world, &board).await).unwrap(), "7");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_while_it_renders_delays_no_other() {
    let (world, board) = (World::default(), Board::new(1));
    {
        let mut leaving = Box::pin(ask(&world, &board));
        let first = futures_poll(leaving.as_mut()).await;
        assert!(first.is_pending());
    }
    assert_eq!(read(ask(&world, &board).await).unwrap(), "0");
    assert_eq!(world.made.load(Ordering::Relaxed), 1);
}

/// Polls once.
async fn futures_poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    let mut future = Some(future);
    std::future::poll_fn(|cx| {
        let future = future.take().expect("it is polled once");
        Poll::Ready(future.poll(cx))
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_falls_far_behind_is_cut_off_and_the_newest_stay() {
    let (world, board) = (World::default(), Board::new(1));
    let mut held = Vec::new();
    for shown in 0..EARLIER_MAX as u64 + 3 {
        world.shown.store(shown, Ordering::Relaxed);
        held.push(ask(&world, &board).await);
        advance(REST_MAX).await;
    }
    let read: Vec<_> = held.into_iter().map(read).collect();
    // The newest, and as many as may be read besides.
    assert_eq!(read[..2], [None, None]);
    let kept = (2..).map(|shown: u64| Some(shown.to_string()));
    assert!(read[2..].iter().cloned().eq(kept.take(EARLIER_MAX + 1)));
}

#[tokio::test(start_paused = true)]
async fn texts_that_are_read_to_the_end_are_not_kept() {
    let (world, board) = (World::default(), Board::new(1));
    let first = Cell::new(Some(ask(&world, &board).await));
    let mut held = first.take();
    for shown in 1..100 {
        world.shown.store(shown, Ordering::Relaxed);
        drop(ask(&world, &board).await);
        advance(REST_MAX).await;
        yield_now().await;
    }
    // Those in between were dropped at once.
    assert_eq!(read(held.take().unwrap()).unwrap(), "0");
}

#[test]
fn a_rendering_that_took_long_is_followed_by_a_bounded_rest() {
    assert_eq!(rest_after(Duration::ZERO), Duration::ZERO);
    assert_eq!(rest_after(TOOK), Duration::from_millis(500));
    assert_eq!(rest_after(Duration::from_secs(3600)), REST_MAX);
}
