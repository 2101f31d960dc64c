//! What a task was made of, as Kling shows it: the `taskInfo` of a job start's answer and of a
//! history.
//!
//! A job remembers its arguments only as far as [`keep`] lets it, since many jobs are remembered.
//! The answer to its start shows them whole.

use serde_json::{Value, json};

use crate::operation::JobKind;

/// A field that Kling received: its name and its value, as text.
pub(crate) type Argument = (String, String);

/// The most arguments a job remembers: more than twice as many as any operation takes.
const ARGUMENTS_MAX: usize = 64;

/// The longest name or value a job remembers, in bytes. A prompt of at most 2,500 characters fits
/// in any script; a picture in base64 does not.
const ARGUMENT_BYTES_MAX: usize = 10 * 1024;

/// What the rows of `GET /tasks` say about how a task was made. The upstream promises none of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HistoryStyle {
    /// `taskInfo` as the answer to the job start showed it, with two limits: names and values are
    /// cut after 10 KiB, and only the first 64 arguments by name are shown.
    #[default]
    Full,
    /// `taskInfo` is empty, as in the vendor's sample of a task's works.
    Bare,
    /// The prompt differs from the one that was sent, since Kling rewrote it. The rest is as in
    /// `Full`.
    Rewritten,
}

/// What a job remembers of its arguments: the first ones, and only the beginning of each.
pub(super) fn keep(arguments: &[Argument]) -> Vec<Argument> {
    let kept = arguments.iter().take(ARGUMENTS_MAX);
    kept.map(|(name, value)| (cut(name), cut(value))).collect()
}

/// The `taskInfo` of a task of this kind.
pub(super) fn show(kind: &JobKind, arguments: &[Argument]) -> Value {
    let arguments: Value = arguments
        .iter()
        .map(|(name, value)| json!({ "name": name, "value": value }))
        .collect();
    json!({
        "type": kind.task_type,
        "inputs": [],
        "arguments": arguments,
        "extraArgs": {},
        "callbackPayloads": [],
        "scene": "NORMAL_CREATION",
    })
}

/// The `taskInfo` of a task of this kind, as a history of this style shows it.
pub(super) fn show_in_history(
    kind: &JobKind,
    arguments: &[Argument],
    style: HistoryStyle,
) -> Value {
    match style {
        HistoryStyle::Full => show(kind, arguments),
        HistoryStyle::Bare => json!({}),
        HistoryStyle::Rewritten => {
            let mut arguments = arguments.to_vec();
            let prompts = arguments.iter_mut().filter(|(name, _)| name == "prompt");
            prompts.for_each(|(_, value)| *value = rewrite(value));
            show(kind, &arguments)
        }
    }
}

/// A text that differs from `prompt`, since it is longer; different prompts stay different.
fn rewrite(prompt: &str) -> String {
    let backwards: String = prompt.chars().rev().collect();
    format!("Cinematic: {backwards}")
}

/// The beginning of a text, up to a whole character.
fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(ARGUMENT_BYTES_MAX)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operation::TEXT_TO_VIDEO;

    fn prompt(text: &str) -> Argument {
        ("prompt".to_owned(), text.to_owned())
    }

    #[test]
    fn the_longest_prompt_is_remembered_whole_in_every_script() {
        for character in ["a", "é", "船", "🚢"] {
            let longest = [prompt(&character.repeat(2_500))];
            assert_eq!(keep(&longest), longest, "{character}");
        }
    }

    #[test]
    fn a_longer_value_is_cut_after_a_whole_character() {
        for (character, byte_count) in [("a", 10_240), ("船", 10_239), ("🚢", 10_240)] {
            let kept = keep(&[prompt(&character.repeat(10_241))]);
            assert_eq!(kept[0].1.len(), byte_count, "{character}");
        }
        let long_name = ("n".repeat(10_241), String::new());
        assert_eq!(keep(&[long_name])[0].0.len(), 10_240);
        assert_eq!(keep(&vec![prompt("p"); 65]).len(), 64);
    }

    #[test]
    fn only_a_prompt_is_rewritten_and_never_to_what_it_was() {
        for text in ["", "a", "a boat", "Cinematic: ", "船"] {
            let arguments = [("duration".to_owned(), "5".to_owned()), prompt(text)];
            let shown = show_in_history(&TEXT_TO_VIDEO, &arguments, HistoryStyle::Rewritten);
            let shown = &shown["arguments"];
            assert_eq!(shown[0], json!({ "name": "duration", "value": "5" }));
            assert_eq!(shown[1]["name"], "prompt");
            assert_ne!(shown[1]["value"], text);
        }
    }
}
