use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener},
    sync::mpsc,
    thread,
};

use super::*;
use crate::calls::Work;

#[test]
fn calls_that_a_stalled_server_keeps_from_being_sent_count_from_when_they_were_due() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let addr = listener.local_addr().unwrap();
    let (window_is_over, stall) = mpsc::channel::<()>();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 1024];
        let mut answered = 0;
        while stream.read(&mut request).unwrap() > 0 {
            if answered == 0 {
                stall.recv().unwrap();
            }
            stream
                .write_all(b"HTTP/1.1 204 No Content\r\n\r\n")
                .unwrap();
            answered += 1;
        }
        answered
    });
    let load = Load {
        connections: 1,
        warm_up: Duration::ZERO,
        window: Duration::from_millis(20),
    };
    // It is read at the begin and at the end of the window.
    let reads = std::cell::Cell::new(0);
    let cpu = || {
        reads.set(reads.get() + 1);
        if reads.get() == 2 {
            window_is_over.send(()).unwrap();
        }
        Ok(Duration::ZERO)
    };
    let mut calls = Calls::new(Work::Passes, "");
    let tally = load.run(addr, cpu, &mut calls, Pace::Open(1000.0)).unwrap();
    assert_eq!(tally.calls_count, 0, "none was answered in the window");
    assert_eq!(tally.latency.len(), 20, "one is due each millisecond");
    assert_eq!(tally.lateness.len(), 20);
    // The first was due when the window began, the second a millisecond later, and neither was answered in it.
    let at_least = tally.latency.value_at_quantile(0.5);
    assert!(at_least >= 9_000_000, "{at_least} ns");
    assert_eq!(server.join().unwrap(), 20);
}
