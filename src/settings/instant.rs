//! Dates as the operator writes them.
//!
//! A date means its whole day, in UTC, the zone of the audit log. Reads no clock.

use std::time::SystemTime;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use toml::value::Datetime;

use super::scalar::Complaint;

/// Returns the first instant after a date, or the instant of a date with time and offset.
pub(super) fn instant(written: &Datetime) -> Result<SystemTime, Complaint> {
    let hint = "until = 2026-12-31 (that day included, UTC) or until = 2026-12-31T18:00:00Z";
    let no_date = || Complaint::new("no such date").hint(hint);
    let text = written.to_string();
    match (written.date, written.time, written.offset) {
        (Some(_), None, _) => {
            let next = text.parse::<Date>().and_then(Date::tomorrow).map_err(|_| no_date())?;
            let midnight = TimeZone::UTC.to_timestamp(next.at(0, 0, 0, 0)).map_err(|_| no_date())?;
            SystemTime::try_from(midnight).map_err(|_| no_date())
        }
        (Some(_), Some(_), Some(_)) => {
            text.parse::<Timestamp>().and_then(SystemTime::try_from).map_err(|_| no_date())
        }
        (Some(_), Some(_), None) => Err(Complaint::new("a time of day without its zone").hint(hint)),
        (None, _, _) => Err(Complaint::new("a time without a date").hint(hint)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_date_lasts_to_its_end_in_utc() {
        let at = |text: &str| instant(&text.parse().unwrap());
        let new_year = SystemTime::UNIX_EPOCH + Duration::from_secs(1_798_761_600);
        assert_eq!(at("2026-12-31"), Ok(new_year));
        assert_eq!(at("2027-01-01T02:00:00+02:00"), Ok(new_year));
        assert!(at("2026-12-31T10:00:00").is_err());
        assert!(at("10:00:00").is_err());
    }
}
