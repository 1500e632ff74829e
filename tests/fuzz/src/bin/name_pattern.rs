//! A pattern is spelled in one way, `wide` only ever adds, and one without a wildcard is its own name.
#![no_main]

use libfuzzer_sys::fuzz_target;
use namegate::facts::Name;
use namegate::gate::Pattern;

fuzz_target!(|text: &str| {
    let Ok(pattern) = Pattern::parse(text, true) else {
        assert!(Pattern::parse(text, false).is_err());
        return;
    };
    assert_eq!(Pattern::parse(pattern.as_str(), true).as_ref(), Ok(&pattern));
    if let Ok(narrow) = Pattern::parse(text, false) {
        assert_eq!(narrow, pattern);
    }
    if let Ok(name) = Name::parse(pattern.as_str()) {
        assert!(pattern.matches(&name));
    }
});
