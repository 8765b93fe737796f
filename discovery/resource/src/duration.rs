//! Times as Go writes them, which is how Istio's resources have them (`time.ParseDuration`).

use std::time::Duration;

const UNITS: [(&str, f64); 7] =
    [("ns", 1e-9), ("us", 1e-6), ("\u{b5}s", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
/// Protobuf's greatest duration, about 10,000 years.
const GREATEST_SECONDS: f64 = 315_576_000_000.0;

/// `1h30m`, `2.5s`, `250ms`; none if it is no time, or a negative one.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let (mut seconds, mut rest) = (0.0, text);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let (_, unit) = UNITS.iter().find(|(name, _)| *name == &rest[..end])?;
        seconds += number * unit;
        rest = &rest[end..];
    }
    // A sum of floats: the nearest nanosecond is what was written.
    (!text.is_empty() && seconds <= GREATEST_SECONDS).then(|| Duration::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_go_writes_them() {
        let read = [
            ("0", 0),
            ("0s", 0),
            ("1ms", 1),
            ("2.5s", 2500),
            ("1h30m", 5_400_000),
            ("1m0.25s", 60_250),
            (".5s", 500),
            ("1000us", 1),
        ];
        for (text, milliseconds) in read {
            assert_eq!(parse(text), Some(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["", "5", "s", "-1s", "1 s", "1d", "1.2.3s", "1e400s", "999999999999h", "1s5"] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}
