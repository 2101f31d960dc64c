//! `kling-balancer top` on a terminal.

use std::{
    env,
    io::{self, Read},
};

use harness::{Running, eventually};
use http::{Method, StatusCode};
use kling_sim::Fault;
use proxy::terminal::Screen;
use serde_json::Value;
use tokio::process::Command;

use crate::{program::output, pseudo_terminal::Terminal};

const SIZE: (u16, u16) = (140, 36);

/// A sidecar with a full, a quarantined and an idle account.
async fn busy() -> Running {
    let accounts = [("broken@x", 2), ("full@x", 1), ("idle@x", 2)];
    let running = Running::with(&accounts).await;
    running
        .sim
        .fault(Fault::status(596).account("broken@x").times(1));
    let body = r#"{"prompt":"a boat","email":"broken@x"}"#;
    let refused = running.post("/v1/kling/videos/text2video", body).await;
    assert_eq!(refused.status, 596, "{refused:?}");
    running.pick("?email=full@x&ttl=10m").await;
    running
}

/// `top` of this sidecar.
fn top(running: &Running, size: (u16, u16)) -> Terminal {
    let listen = running.addr.to_string();
    Terminal::start(&["top"], &[("KLB_LISTEN", &listen)], size)
}

async fn until_state(running: &Running, email: &str, state: &str) {
    eventually(async || (running.account(email).await["state"] == state).then_some(())).await;
}

/// The lines on which an account is shown.
fn line_of<'a>(text: &'a str, email: &str) -> &'a str {
    let mut lines = text.lines();
    let found = lines.find(|line| line.contains(email));
    found.unwrap_or_else(|| panic!("no {email} in\n{text}"))
}

#[tokio::test]
async fn top_shows_what_needs_an_operator_and_drains_and_resumes_by_keys() {
    let running = busy().await;
    let addr = running.addr;
    let waiter = tokio::spawn(async move {
        let path = "/pick?email=full@x&wait=10m";
        harness::try_send(addr, Method::POST, path, &[], "").await
    });
    let mut top = top(&running, SIZE);
    let text = top
        .until_shows(&["quarantined", "full", "available", "QUEUE", "1 waiting"])
        .await;
    assert!(line_of(&text, "broken@x").contains("quarantined"), "{text}");
    assert!(
        line_of(&text, "broken@x").starts_with("> "),
        "the worst is first: {text}"
    );
    assert!(line_of(&text, "full@x").contains("1/1   █"), "{text}");
    assert!(line_of(&text, "idle@x").contains("0/2   ░░"), "{text}");

    // A filter leaves one account, and the keys are for it.
    top.press("/IDLE\r");
    top.until_shows(&["1 with \"IDLE\"", "> idle@x", "q quit"])
        .await;
    top.press("d");
    top.until_shows(&["drain idle@x?", "(y/n)"]).await;
    top.press("n");
    top.until_shows(&["q quit"]).await;
    assert_eq!(running.account("idle@x").await["state"], "available");
    top.press("d");
    top.until_shows(&["drain idle@x?"]).await;
    top.press("y");
    until_state(&running, "idle@x", "draining").await;
    top.until_shows(&["is draining, 0 of 2 slots in use"]).await;
    top.until(|screen| line_of(&screen.contents(), "0/2   ░░").contains("draining"))
        .await;
    top.press("e");
    top.until_shows(&["resume idle@x?"]).await;
    top.press("y");
    until_state(&running, "idle@x", "available").await;

    // Esc: all accounts again.
    top.press("\x1b");
    top.until(|screen| !screen.contents().contains("with \"IDLE\""))
        .await;
    top.press("?");
    top.until_shows(&["reverse the order", "█ held"]).await;
    top.press(" s");
    top.until_shows(&["ACCOUNT*", "broken@x"]).await;
    top.press("q");
    let (code, text) = top.end().await;
    assert_eq!((code, text.trim()), (Some(0), ""));
    waiter.abort();
}

#[tokio::test]
async fn top_is_drawn_anew_for_a_new_size() {
    let running = busy().await;
    let mut top = top(&running, SIZE);
    let last = |height: u16| {
        move |screen: &vt100::Screen| {
            let rows: Vec<_> = screen.rows(0, 400).collect();
            rows.len() == usize::from(height)
                && rows.last().is_some_and(|row| row.contains("q quit"))
        }
    };
    top.until(last(SIZE.1)).await;
    for (columns, rows) in [(60, 12), (200, 50), (20, 4), (1, 1), (90, 24)] {
        top.resize(columns, rows);
        if columns >= 90 {
            let text = top.until(last(rows)).await;
            assert_eq!(text.matches("q quit").count(), 1, "{text}");
        } else {
            let first = |screen: &vt100::Screen| {
                let row = screen.rows(0, columns).next().unwrap();
                row.chars().count() == usize::from(columns) && row.ends_with('…')
            };
            top.until(first).await;
        }
    }
    top.press("\x03");
    assert_eq!(top.end().await.0, Some(0));
}

#[tokio::test]
async fn a_signal_leaves_the_terminal_as_it_was() {
    let running = busy().await;
    for (signal, code) in [("-TERM", 143), ("-INT", 130), ("-HUP", 129)] {
        let top = top(&running, SIZE);
        top.until_shows(&["q quit"]).await;
        let killed = Command::new("kill").args([signal, &top.pid()]).status();
        assert!(killed.await.unwrap().success());
        let (ended, text) = top.end().await;
        assert_eq!(ended, Some(code), "{text}");
        assert!(text.contains("kling-balancer: ended by SIG"), "{text}");
    }
}

/// Says to the test below that it is the program on the terminal.
const PANICS: &str = "KLB_TEST_PANICS";

#[tokio::test]
async fn a_panic_leaves_the_terminal_as_it_was_and_is_told() {
    let name = "top::a_panic_leaves_the_terminal_as_it_was_and_is_told";
    if env::var_os(PANICS).is_some() {
        let mut screen = Screen::enter().unwrap();
        screen.draw(&["the picture".into()], SIZE, true).unwrap();
        // Until a key is pressed.
        io::stdin().read_exact(&mut [0]).unwrap();
        panic!("as was to be tested");
    }
    let program = env::current_exe().unwrap();
    let args = ["--exact", name, "--nocapture"];
    let mut panics = Terminal::run(program, &args, &[(PANICS, "1")], SIZE);
    panics
        .until(|screen| screen.alternate_screen() && screen.contents() == "the picture")
        .await;
    panics.press("x");
    let (code, text) = panics.end().await;
    assert_eq!(code, Some(101), "{text}");
    assert!(text.contains("as was to be tested"), "{text}");
}

#[tokio::test]
async fn a_sidecar_that_is_gone_leaves_its_last_picture() {
    let running = busy().await;
    let mut top = top(&running, SIZE);
    top.until_shows(&["broken@x", "q quit"]).await;
    running.shutdown.cancel();
    running.task.await.unwrap().unwrap();
    let text = top.until_shows(&["trying again", "broken@x"]).await;
    let said = "nothing answers at http://127.0.0.1:";
    assert!(
        text.starts_with("no answer, trying again; this is from ") && text.contains(said),
        "{text}"
    );
    // Keys still work, and a change that cannot be made is told.
    top.press("d");
    top.until_shows(&["drain broken@x?"]).await;
    top.press("y");
    top.until(|screen| screen.contents().matches(said).count() == 2)
        .await;
    top.press("q");
    assert_eq!(top.end().await.0, Some(0));
}

#[tokio::test]
async fn no_color_is_shown_where_none_is_wanted() {
    let running = busy().await;
    let listen = running.addr.to_string();
    for (env, has_colors) in [(None, true), (Some(("NO_COLOR", "1")), false)] {
        let env: Vec<_> = env.into_iter().chain([("KLB_LISTEN", &*listen)]).collect();
        let mut top = Terminal::start(&["top"], &env, SIZE);
        let has_color = |screen: &vt100::Screen| {
            let mut cells =
                (0..SIZE.1).flat_map(|row| (0..SIZE.0).map(move |column| (row, column)));
            cells.any(|(row, column)| {
                let cell = screen.cell(row, column);
                cell.is_some_and(|cell| cell.fgcolor() != vt100::Color::Default)
            })
        };
        top.until(|screen| {
            screen.contents().contains("quarantined") && has_color(screen) == has_colors
        })
        .await;
        top.press("q");
        top.end().await;
    }
}

#[tokio::test]
async fn where_there_is_no_terminal_top_is_one_picture_in_plain_text() {
    let running = busy().await;
    let listen = running.addr.to_string();
    let env = [("KLB_LISTEN", &*listen)];
    for args in [&["top"][..], &["top", "--once"]] {
        let (code, text) = output(args, &env).await;
        assert_eq!(code, Some(0), "{text}");
        assert!(!text.contains('\x1b'), "{text}");
        for shown in [
            "safe to restart: no: ",
            "quarantined",
            "full@x",
            "idle@x",
            "SLOT ON",
        ] {
            assert!(text.contains(shown), "no {shown} in\n{text}");
        }
    }
    let (code, json) = output(&["top", "--json"], &env).await;
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((code, json["slots"]["max"].as_u64()), (Some(0), Some(5)));

    let dumb = [("KLB_LISTEN", &*listen), ("TERM", "dumb")];
    let top = Terminal::start(&["top"], &dumb, SIZE);
    let (code, text) = top.end().await;
    assert!(code == Some(0) && text.contains("quarantined"), "{text}");
    let once = Terminal::start(&["top", "--once"], &env, SIZE);
    let (code, text) = once.end().await;
    assert!(code == Some(0) && text.contains("quarantined"), "{text}");
    assert_eq!(running.get("/livez").await.status, StatusCode::OK);
}
