//! DNS query types by name (IANA DNS parameters; `TYPE65` is RFC 3597 section 5).
//!
//! Knows names and numbers, not what is answered.

use super::scalar::Complaint;
use super::suggest::nearest;

/// Forwarded when the operator says nothing: A, AAAA, CNAME, HTTPS, SVCB, SRV, MX, PTR.
pub(super) const DEFAULT: [u16; 8] = [1, 28, 5, 65, 64, 33, 15, 12];

/// NULL and TXT: free bytes in answers.
pub(super) const TUNNELS: [u16; 2] = [10, 16];

/// Parses a query type.
pub(super) fn query_type(text: &str) -> Result<u16, Complaint> {
    let upper = text.to_ascii_uppercase();
    if let Some((_, number)) = NAMES.iter().find(|(name, _)| *name == upper) {
        return Ok(*number);
    }
    if REFUSED.contains(&upper.as_str()) {
        return Err(Complaint::new(format!("{upper} is never forwarded"))
            .hint("it asks for more than one record type"));
    }
    let digits = upper.strip_prefix("TYPE").filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    if let Some(number) = digits.and_then(|digits| digits.parse::<u16>().ok()) {
        return match number {
            0 | 41 | 128..=255 => {
                Err(Complaint::new("not a type of record").hint("meta types (RFC 6895) are never forwarded"))
            }
            _ => Ok(number),
        };
    }
    let hint = match nearest(&upper, NAMES.iter().map(|(name, _)| *name)) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => "such as \"A\", \"AAAA\", \"HTTPS\", or \"TYPE65\" by number".to_owned(),
    };
    Err(Complaint::new("unknown query type").hint(hint))
}

const NAMES: [(&str, u16); 23] = [
    ("A", 1),
    ("NS", 2),
    ("CNAME", 5),
    ("SOA", 6),
    ("NULL", 10),
    ("PTR", 12),
    ("MX", 15),
    ("TXT", 16),
    ("AAAA", 28),
    ("LOC", 29),
    ("SRV", 33),
    ("NAPTR", 35),
    ("DNAME", 39),
    ("DS", 43),
    ("SSHFP", 44),
    ("RRSIG", 46),
    ("NSEC", 47),
    ("DNSKEY", 48),
    ("TLSA", 52),
    ("SVCB", 64),
    ("HTTPS", 65),
    ("SPF", 99),
    ("CAA", 257),
];

const REFUSED: [&str; 4] = ["ANY", "*", "AXFR", "IXFR"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_have_names_and_numbers() {
        for (text, number) in
            [("A", 1), ("https", 65), ("TYPE65", 65), ("type1", 1), ("CAA", 257), ("TYPE65280", 65280)]
        {
            assert_eq!(query_type(text), Ok(number), "{text}");
        }
        for text in ["", "ANY", "TYPE255", "TYPE41", "TYPE", "TYPE65536", "TYPE+1", "axfr", "65", "HTPS"] {
            assert!(query_type(text).is_err(), "{text}");
        }
        assert_eq!(query_type("HTPS").unwrap_err().hint.unwrap(), "did you mean \"HTTPS\"?");
    }
}
