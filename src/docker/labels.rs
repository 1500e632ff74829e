//! Labels are a stranger's text: what of them is kept.
//!
//! Pure. What is cut is seen to be cut, because a missing label may be the one that denies. Must not know what a label
//! means.

use std::collections::HashMap;
use std::sync::Arc;

/// The value of a label that is too long to be kept, and of `namegate.allow` where labels could not be kept at all.
/// It is no list of names: whoever reads it as one fails, which denies.
pub const OVERSIZED: &str = "\u{0}oversized";

/// Keeps at most 256 labels of at most 64 KiB in all, ours and those of Compose first, then by key. A value of more
/// than 4 KiB becomes [`OVERSIZED`]. Where a label is left out (there are too many, or its key has more than 256 bytes)
/// `namegate.allow` becomes [`OVERSIZED`]: it may have been ours, or one that a rule denies.
pub(super) fn bounded(labels: HashMap<String, String>) -> Vec<(Arc<str>, Arc<str>)> {
    let mut labels: Vec<(String, String)> = labels.into_iter().collect();
    labels.sort_unstable_by(|(one, _), (other, _)| (rank(one), one).cmp(&(rank(other), other)));
    let mut left = MAX_BYTES;
    let mut kept: Vec<(Arc<str>, Arc<str>)> = Vec::with_capacity(labels.len().min(MAX_LABELS));
    let mut is_cut = false;
    for (key, value) in labels {
        let value = if value.len() > MAX_VALUE { OVERSIZED } else { &value };
        let size = key.len() + value.len();
        if key.len() > MAX_KEY || kept.len() == MAX_LABELS || size > left {
            is_cut = true;
            continue;
        }
        left -= size;
        kept.push((key.into(), value.into()));
    }
    if is_cut {
        kept.retain(|(key, _)| &**key != ALLOW);
        kept.insert(0, (ALLOW.into(), OVERSIZED.into()));
    }
    kept
}

fn rank(key: &str) -> u8 {
    match key {
        key if key.starts_with("namegate.") => 0,
        key if key.starts_with("com.docker.compose.") => 1,
        _ => 2,
    }
}

/// A value or other text, if it is short enough.
pub(super) fn short(text: &str) -> &str {
    if text.len() > MAX_VALUE { OVERSIZED } else { text }
}

/// The label that is a list of names.
pub(super) const ALLOW: &str = "namegate.allow";
const MAX_LABELS: usize = 256;
const MAX_BYTES: usize = 64 << 10;
const MAX_KEY: usize = 256;
const MAX_VALUE: usize = 4 << 10;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn kept(labels: impl IntoIterator<Item = (String, String)>) -> Vec<(Arc<str>, Arc<str>)> {
        bounded(labels.into_iter().collect())
    }

    fn value<'a>(labels: &'a [(Arc<str>, Arc<str>)], key: &str) -> Option<&'a str> {
        labels.iter().find(|(known, _)| &**known == key).map(|(_, value)| &**value)
    }

    fn own(key: &str, value: &str) -> (String, String) {
        (key.to_owned(), value.to_owned())
    }

    #[test]
    fn ordinary_labels_are_kept_as_they_are() {
        let labels = kept([own("tier", "ci"), own("namegate.allow", "example.com"), own("empty", "")]);
        assert_eq!(labels.len(), 3);
        assert_eq!(value(&labels, "namegate.allow"), Some("example.com"));
        assert_eq!((value(&labels, "tier"), value(&labels, "empty")), (Some("ci"), Some("")));
    }

    #[test]
    fn a_long_value_is_seen_to_be_long_and_costs_nothing_else() {
        let long = "x".repeat(MAX_VALUE + 1);
        let labels = kept([own("metadata", &long), own("namegate.allow", "example.com")]);
        assert_eq!(value(&labels, "metadata"), Some(OVERSIZED));
        assert_eq!(value(&labels, "namegate.allow"), Some("example.com"));
        let labels = kept([own("namegate.allow", &long), own("tier", "ci")]);
        assert_eq!(value(&labels, "namegate.allow"), Some(OVERSIZED));
        assert_eq!(value(&labels, "tier"), Some("ci"));
    }

    #[test]
    fn labels_without_end_do_not_push_ours_or_those_of_compose_out() {
        let many = (0..100_000).map(|n| own(&format!("a{n}"), "x"));
        let ours = [own("namegate.deny", "y"), own("com.docker.compose.service", "web")];
        let labels = kept(many.chain(ours));
        assert!(labels.len() <= MAX_LABELS + 1);
        assert_eq!(value(&labels, "namegate.deny"), Some("y"));
        assert_eq!(value(&labels, "com.docker.compose.service"), Some("web"));
        assert_eq!(value(&labels, "namegate.allow"), Some(OVERSIZED), "what was left out may be what denies");
    }

    #[test]
    fn what_is_left_out_replaces_what_is_allowed() {
        let allowed = own("namegate.allow", "example.com");
        for extra in
            [own(&"k".repeat(MAX_KEY + 1), "v"), own(&format!("namegate.{}", "k".repeat(MAX_KEY)), "v")]
        {
            let labels = kept([allowed.clone(), extra]);
            assert_eq!(labels.len(), 1);
            assert_eq!(value(&labels, "namegate.allow"), Some(OVERSIZED));
        }
        let bulk = (0..40).map(|n| own(&format!("b{n}"), &"x".repeat(MAX_VALUE)));
        let labels = kept(bulk.chain([allowed]));
        assert_eq!(value(&labels, "namegate.allow"), Some(OVERSIZED));
        let bytes: usize = labels.iter().map(|(key, value)| key.len() + value.len()).sum();
        assert!(bytes <= MAX_BYTES + 64, "{bytes}");
    }
}
