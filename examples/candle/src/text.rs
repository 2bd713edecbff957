//! Extracts sentences from text files.

use std::fs;
use std::path::{Path, PathBuf};

use candle_core::Result;

use crate::run::of;

/// The folders of the repository's own texts.
const TEXTS: [&str; 2] =
    [concat!(env!("CARGO_MANIFEST_DIR"), "/../../spec"), concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs")];

/// The smallest number of words in a sentence.
const LEAST_WORDS: usize = 3;

/// Returns at most `limit` sentences of these files, or of the repository's Markdown files if none
/// is given. They are spread evenly over the whole text, in its order.
pub(crate) fn sentences(files: &[PathBuf], limit: usize) -> Result<Vec<String>> {
    let mut files = files.to_vec();
    if files.is_empty() {
        for directory in TEXTS.map(Path::new) {
            for entry in fs::read_dir(directory).map_err(of(directory))? {
                files.push(entry?.path());
            }
        }
        files.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
        files.sort();
    }
    let mut all = Vec::new();
    for file in files {
        all.extend(split(&fs::read_to_string(&file).map_err(of(&file))?));
    }
    let take = limit.min(all.len());
    let mut kept = (0..take).map(|i| i * all.len() / take).collect::<Vec<_>>().into_iter().peekable();
    let chosen = all.into_iter().enumerate().filter(|(at, _)| kept.next_if_eq(at).is_some());
    Ok(chosen.map(|(_, sentence)| sentence).collect())
}

/// Paragraphs, cut after words that end in a full stop, a question mark or a colon. Rows of tables
/// are sentences too.
fn split(text: &str) -> Vec<String> {
    let text = text.replace('\r', "").replace("\n|", "\n\n|");
    let mut sentences = Vec::new();
    for paragraph in text.split("\n\n") {
        let words: Vec<_> = paragraph.split_whitespace().collect();
        let parts = words.split_inclusive(|word| word.ends_with(['.', '?', ':']));
        sentences.extend(parts.filter(|words| words.len() >= LEAST_WORDS).map(|words| words.join(" ")));
    }
    sentences
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_into_sentences() {
        let text = "# A heading of five words\n\nOne line and\nthe next. Too short. Is this one? It is.\n\n| a | b |\n| c | d |\n";
        let expected =
            ["# A heading of five words", "One line and the next.", "Is this one?", "| a | b |", "| c | d |"];
        assert_eq!(split(text), expected);
    }

    #[test]
    fn a_limit_takes_from_all_of_the_text() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("text");
        fs::write(&file, (0..10).map(|i| format!("this is {i}.\n")).collect::<String>()).unwrap();
        let take = |limit| sentences(std::slice::from_ref(&file), limit).unwrap();
        assert_eq!(take(2), ["this is 0.", "this is 5."]);
        assert_eq!(take(0), [""; 0]);
        assert_eq!(take(99).len(), 10);
    }
}
