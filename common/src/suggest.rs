//! "Did you mean …?": the known word nearest to one that nobody knows.

/// The word of `known` that somebody who wrote `word` most likely meant, if one is near enough.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let allowed = (word.chars().count() / 3).max(2);
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= allowed && *distance < candidate.len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// The tail of an error about an unknown word: the nearest known one, or else all of them.
pub(crate) fn hint(word: &str, known: &[&str]) -> String {
    match nearest(word, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("known are {}", list(known)),
    }
}

/// `` `a`, `b` and `c` ``.
pub(crate) fn list<S: AsRef<str>>(words: &[S]) -> String {
    let quoted: Vec<_> = words.iter().map(|w| format!("`{}`", w.as_ref())).collect();
    match quoted.split_last() {
        None => "none".to_string(),
        Some((only, [])) => only.clone(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_the_word_and_a_stranger_finds_none() {
        assert_eq!(nearest("Segment_row", ["segment_age", "segment_rows"]), Some("segment_rows"));
        assert_eq!(nearest("colour", ["segment_age", "segment_rows"]), None);
    }

    #[test]
    fn a_stranger_is_told_what_is_known() {
        assert_eq!(hint("colour", &["path", "format", "header"]), "known are `path`, `format` and `header`");
    }
}
