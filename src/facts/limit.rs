//! What there may only be so much of.
//!
//! Plain words; how much, and for whom, is known where it is counted.

/// A limit that refused something (`over_limit`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Limit {
    /// Open connections of one client.
    OpenConnections,
    /// New connections of one client, by the second.
    NewConnections,
    /// Questions under way, of one client or in all.
    QuestionsUnderWay,
    /// Questions of one client, by the second.
    Questions,
    /// Names that one client had not asked for lately, by the minute.
    NewNames,
}

impl Limit {
    /// Every limit, in the order of the documentation.
    pub const ALL: [Self; 5] = [
        Self::OpenConnections,
        Self::NewConnections,
        Self::QuestionsUnderWay,
        Self::Questions,
        Self::NewNames,
    ];

    /// Returns the stable code, `namegate.limit` of an `over_limit` line.
    pub const fn code(self) -> &'static str {
        match self {
            Self::OpenConnections => "open_connections",
            Self::NewConnections => "new_connections",
            Self::QuestionsUnderWay => "questions_under_way",
            Self::Questions => "questions",
            Self::NewNames => "new_names",
        }
    }
}
