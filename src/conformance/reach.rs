//! Attacks of the catalogue that this world cannot try, and why.
//!
//! Must not know those that it can.

/// Number, name, and the reason.
pub(super) const OUT_OF_REACH: &[(u8, &str, &str)] = &[
    (
        6,
        "src-spoof",
        "a forged source address gets no reply, and what it plants shows only between two real clients",
    ),
    (8, "dnstap-inject", "needs a filter that is fed by dnstap"),
    (14, "cache-before-start", "what is right depends on whether the filter keeps its state"),
    (16, "cap-flood", "what is right is a bound on memory, which is not seen from outside"),
    (17, "first-packet", "needs a filter that is fed by dnstap"),
    (18, "dnstap-loss", "needs a filter that is fed by dnstap"),
    (24, "ech-grease", "the same bytes as ech-real: which is right is the operator's choice"),
    (26, "fronting", "inside TLS to an allowed name: not to be seen without decrypting"),
    (28, "coalesce", "inside TLS to an allowed name: not to be seen without decrypting"),
    (35, "embedded-dns", "needs Docker's own resolver"),
    (41, "sibling-relay", "clients on one bridge reach each other without the gateway"),
    (43, "custom-bridge", "which links are captured is a matter of configuration"),
    (46, "starttls", "the name comes after a protocol of the server's own; see server-first"),
    (47, "fake-connect", "what connects in vain sends nothing: a nuisance to scanners, no way out"),
    (48, "userns-exec", "needs a sandbox, not a gateway"),
];
