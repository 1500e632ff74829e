//! Finds the rules whose patterns mean a name, without looking at the others.
//!
//! Every pattern is filed under its longest literal suffix of whole labels; a name asks once for each of
//! its own suffixes. Must not know what a rule does.

use foldhash::quality::RandomState;
use hashbrown::HashMap;

use crate::facts::Name;

use super::Pattern;
use super::pattern::Shape;

/// Patterns of a whole policy; rules are named by their position.
#[derive(Debug, Default)]
pub(super) struct Patterns {
    shelves: HashMap<Box<str>, Shelf, RandomState>,
    everything: Vec<u32>,
    longest: usize,
}

/// Rules filed under one literal suffix, each list in rule order.
#[derive(Debug, Default)]
struct Shelf {
    exact: Vec<u32>,
    one: Vec<u32>,
    deep: Vec<u32>,
    globs: Vec<(Pattern, u32)>,
}

impl Patterns {
    /// Files a pattern of a rule. Rules come in their order.
    pub(super) fn file(&mut self, pattern: &Pattern, rule: u32) {
        let suffix = pattern.literal_suffix();
        self.longest = self.longest.max(suffix.len());
        if pattern.shape() == Shape::Everything {
            return self.everything.push(rule);
        }
        let shelf = self.shelves.entry(suffix.into()).or_default();
        match pattern.shape() {
            Shape::Exact => shelf.exact.push(rule),
            Shape::One => shelf.one.push(rule),
            Shape::Deep => shelf.deep.push(rule),
            Shape::Glob { .. } => shelf.globs.push((pattern.clone(), rule)),
            Shape::Everything => {}
        }
    }

    /// Calls `found` for every pattern that means the name; a rule may be named more than once.
    pub(super) fn matching(&self, name: &Name, mut found: impl FnMut(u32)) {
        let mut all = |rules: &[u32]| rules.iter().copied().for_each(&mut found);
        all(&self.everything);
        for (depth, suffix) in suffixes(name.as_str()).enumerate() {
            let Some(shelf) = self.shelf(suffix) else { continue };
            match depth {
                0 => all(&shelf.exact),
                1 => {
                    all(&shelf.one);
                    all(&shelf.deep);
                }
                _ => all(&shelf.deep),
            }
            if depth > 0 {
                for (pattern, rule) in &shelf.globs {
                    if pattern.matches(name) {
                        all(&[*rule]);
                    }
                }
            }
        }
    }

    /// Returns rules with a pattern that certainly means every name of `pattern`, that one's own rule
    /// included; at most `limit` of each kind, first rules first.
    pub(super) fn covering(&self, pattern: &Pattern, limit: usize) -> Vec<u32> {
        let mut rules = Vec::new();
        let mut all = |found: &[u32]| rules.extend(found.iter().take(limit));
        all(&self.everything);
        let own = pattern.literal_suffix();
        for (depth, suffix) in suffixes(own).enumerate() {
            let Some(shelf) = self.shelf(suffix) else { continue };
            match (pattern.shape(), depth) {
                (Shape::Exact, 0) => all(&shelf.exact),
                (Shape::Exact, 1) => {
                    all(&shelf.one);
                    all(&shelf.deep);
                }
                (Shape::Glob { deep: false }, 0) if is_one_label_more(pattern) => {
                    all(&shelf.one);
                    all(&shelf.deep);
                }
                (Shape::One, 0) => {
                    all(&shelf.one);
                    all(&shelf.deep);
                }
                (Shape::Exact | Shape::One | Shape::Deep | Shape::Glob { .. } | Shape::Everything, _) => {
                    all(&shelf.deep);
                }
            }
            let same = |(other, _): &&(Pattern, u32)| other == pattern;
            let globs: Vec<u32> =
                shelf.globs.iter().take(limit).filter(same).map(|(_, rule)| *rule).collect();
            all(&globs);
        }
        rules.sort_unstable();
        rules.dedup();
        rules
    }

    fn shelf(&self, suffix: &str) -> Option<&Shelf> {
        if suffix.len() > self.longest { None } else { self.shelves.get(suffix) }
    }
}

/// Whether a pattern's stars all stand in the one label left of its literal suffix.
fn is_one_label_more(pattern: &Pattern) -> bool {
    pattern.as_str().split_once('.').map_or("", |(_, rest)| rest) == pattern.literal_suffix()
}

/// The name itself, then without its first label, and so on; the empty suffix last.
fn suffixes(name: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(name), |rest| match rest.split_once('.') {
        Some((_, shorter)) => Some(shorter),
        None if rest.is_empty() => None,
        None => Some(""),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    const TEXTS: [&str; 13] = [
        "example.com",
        "*.example.com",
        "**.example.com",
        "api-*.example.com",
        "a.*.example.com",
        "**.*.example.com",
        "www.example.com",
        "*",
        "a*",
        "*.com",
        "**.com",
        "*-x.www.example.com",
        "a.b.example.com",
    ];

    #[test]
    fn the_index_finds_what_each_pattern_alone_finds() {
        let patterns: Vec<Pattern> = TEXTS.iter().map(|text| Pattern::parse(text, true).unwrap()).collect();
        let mut index = Patterns::default();
        for (rule, pattern) in (0..).zip(&patterns) {
            index.file(pattern, rule);
        }
        for name in
            ["com", "a", "ab", "example.com", "www.example.com", "api-1.example.com", "a.b.example.com"]
                .into_iter()
                .chain(["a.b.c.example.com", "y-x.www.example.com", "example.net", "x.a", "a.com"])
        {
            let name = Name::parse(name).unwrap();
            let mut found = Vec::new();
            index.matching(&name, |rule| found.push(rule));
            found.sort_unstable();
            let expected: Vec<u32> = (0..)
                .zip(&patterns)
                .filter(|(_, pattern)| pattern.matches(&name))
                .map(|(rule, _)| rule)
                .collect();
            assert_eq!(found, expected, "{name}");
        }
    }

    #[test]
    fn a_covering_pattern_means_every_name_of_the_covered_one() {
        let names: Vec<Name> = [
            "com",
            "a",
            "example.com",
            "www.example.com",
            "api-1.example.com",
            "a.b.example.com",
            "ab",
            "a.b.c.example.com",
            "y-x.www.example.com",
            "api-.example.com",
            "x.com",
            "y.x.com",
        ]
        .iter()
        .map(|name| Name::parse(name).unwrap())
        .collect();
        let patterns: Vec<Pattern> = TEXTS.iter().map(|text| Pattern::parse(text, true).unwrap()).collect();
        let mut index = Patterns::default();
        for (rule, pattern) in (0..).zip(&patterns) {
            index.file(pattern, rule);
        }
        for (at, pattern) in (0..).zip(&patterns) {
            let covering = index.covering(pattern, 64);
            assert!(covering.contains(&at), "{pattern} covers itself");
            for cover in covering {
                let cover = &patterns[usize::try_from(cover).unwrap()];
                for name in names.iter().filter(|name| pattern.matches(name)) {
                    assert!(cover.matches(name), "{cover} does not cover {pattern}: {name}");
                }
            }
        }
        assert_eq!(index.covering(&patterns[6], 64), [1, 2, 6, 7, 10]);
    }
}
