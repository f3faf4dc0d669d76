//! The wall clock in words: UTC, by the days-to-civil rule of the proleptic Gregorian calendar.

/// `2024-02-29 23:59:59Z`
#[must_use]
pub fn time(seconds: u64) -> String {
    let [year, month, day, hour, minute, second] = civil(seconds);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}Z")
}

/// `2024-02-29T23:59:59.000123Z` (RFC 3339), from microseconds.
#[must_use]
pub fn rfc3339(us: u64) -> String {
    let [year, month, day, hour, minute, second] = civil(us / 1_000_000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:06}Z", us % 1_000_000)
}

/// Year, month, day, hour, minute, second of so many seconds since 1970.
fn civil(seconds: u64) -> [u64; 6] {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Years begin in March, so that the leap day is the last one; 719,468 days lie between 0000-03-01 and 1970-01-01.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let date = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + u64::from(month <= 2);
    [year, month, date, rest / 3600, rest / 60 % 60, rest % 60]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(time(0), "1970-01-01 00:00:00Z");
        assert_eq!(time(951_782_400), "2000-02-29 00:00:00Z");
        assert_eq!(time(1_709_251_199), "2024-02-29 23:59:59Z");
        assert_eq!(time(4_107_542_399), "2100-02-28 23:59:59Z");
        assert_eq!(time(4_107_542_400), "2100-03-01 00:00:00Z");
        assert_eq!(rfc3339(1_709_251_199_000_123), "2024-02-29T23:59:59.000123Z");
    }
}
