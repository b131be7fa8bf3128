//! Quantities as people write and read them: bytes, operations, times.

use std::num::NonZeroUsize;
use std::str::FromStr;
use std::time::Duration;

/// Reads `4096`, `512MiB`, `1.5GB`.
pub(crate) fn parse_bytes(text: &str) -> Result<usize, String> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (digits, unit) = text.split_at(split);
    let needed = || "a number such as 512MiB is needed".to_owned();
    if digits.is_empty() {
        return Err(needed());
    }
    let factor: usize = match unit.trim() {
        "" | "B" => 1,
        "kB" | "KB" => 1000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" | "K" => 1 << 10,
        "MiB" | "M" => 1 << 20,
        "GiB" | "G" => 1 << 30,
        _ => return Err(format!("`{unit}` is no unit of bytes; KiB, MiB, GiB, kB, MB and GB are")),
    };
    let too_many = || "more bytes than this machine can address".to_owned();
    if digits.contains('.') {
        let count = digits.parse::<f64>().map_err(|_| needed())? * factor as f64;
        // Above 2⁵³ a part of a byte cannot be meant.
        return if count < 9e15 { Ok(count as usize) } else { Err(too_many()) };
    }
    let count: usize = digits.parse().map_err(|_| needed())?;
    count.checked_mul(factor).ok_or_else(too_many)
}

/// Reads `5ms`, `800us`, `1.5s`; the sign of a micrometre in either of its encodings.
pub(crate) fn parse_time(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| c.is_ascii_alphabetic() || c == 'µ' || c == 'μ').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let micros = match unit.trim() {
        "us" | "µs" | "μs" => 1.0,
        "ms" => 1e3,
        "s" => 1e6,
        "" => return Err("a time above 0 with its unit, such as 5ms, is needed".to_owned()),
        _ => return Err(format!("`{unit}` is no unit of time; us, ms and s are")),
    };
    let count: f64 = number.trim().parse().map_err(|_| "a time such as 5ms is needed".to_owned())?;
    let seconds = count * micros / 1e6;
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|time| !time.is_zero())
        .ok_or_else(|| "a time above 0, such as 5ms, is needed".to_owned())
}

/// Reads a whole number of at least 0.
pub(crate) fn parse_whole<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| "a whole number of at least 0 is needed".to_owned())
}

/// Reads a whole number of at least 1.
pub(crate) fn parse_some(text: &str) -> Result<NonZeroUsize, String> {
    text.parse().map_err(|_| "a whole number of at least 1 is needed".to_owned())
}

/// `1 tensor`, `2 tensors`.
pub(crate) fn plural(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// `1.5 MiB`.
pub(crate) fn bytes(count: f64) -> String {
    scaled(count, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB", "PiB"])
}

/// The values as [`bytes_to`] or [`micros_to`] write them, with as many decimals as tell them apart.
pub(crate) fn told_apart(values: &[f64], write: fn(f64, usize) -> String) -> Vec<String> {
    const MOST: usize = 6;
    let written = |decimals: usize| values.iter().map(|&v| write(v, decimals)).collect::<Vec<String>>();
    let differ = |texts: &[String]| {
        let mut pairs = texts.iter().zip(values).zip(texts.iter().zip(values).skip(1));
        pairs.all(|((a, x), (b, y))| a != b || x == y)
    };
    (1..MOST).map(written).find(|texts| differ(texts)).unwrap_or_else(|| written(MOST))
}

/// `1.5 MiB` with so many decimals.
pub(crate) fn bytes_to(count: f64, decimals: usize) -> String {
    scaled_to(count, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB", "PiB"], decimals)
}

/// Microseconds as `12.3 µs`, with so many decimals.
pub(crate) fn micros_to(us: f64, decimals: usize) -> String {
    scaled_to(us * 1e3, 1000.0, &["ns", "µs", "ms", "s"], decimals)
}

/// `1.5 M`, for operations and elements.
pub(crate) fn count(count: f64) -> String {
    scaled(count, 1000.0, &["", "k", "M", "G", "T", "P"])
}

/// `12.3 µs`.
pub(crate) fn time(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds >= 1.0 {
        format!("{seconds:.3} s")
    } else {
        scaled(seconds * 1e9, 1000.0, &["ns", "µs", "ms"])
    }
}

fn scaled(value: f64, step: f64, units: &[&str]) -> String {
    scaled_to(value, step, units, 1)
}

fn scaled_to(mut value: f64, step: f64, units: &[&str], decimals: usize) -> String {
    let mut at = 0;
    while value >= step && at + 1 < units.len() {
        value /= step;
        at += 1;
    }
    let number =
        if at == 0 && value.fract() == 0.0 { format!("{value}") } else { format!("{value:.decimals$}") };
    format!("{number} {}", units[at]).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read() {
        assert_eq!(parse_bytes("4096"), Ok(4096));
        assert_eq!(parse_bytes("512MiB"), Ok(512 << 20));
        assert_eq!(parse_bytes("2GB"), Ok(2_000_000_000));
        assert_eq!(parse_bytes("1.5MiB"), Ok(3 << 19));
        for wrong in ["", "MiB", "-1", "1.5.2MiB", ".MiB", "3 apples", "99999999.5GiB", "99999999999999GiB"] {
            assert!(parse_bytes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn times_are_read() {
        assert_eq!(parse_time("5ms"), Ok(Duration::from_millis(5)));
        assert_eq!(parse_time("1.5 us"), Ok(Duration::from_nanos(1500)));
        assert_eq!(parse_time("2s"), Ok(Duration::from_secs(2)));
        for five in ["5us", "5µs", "5μs", "0.005ms"] {
            assert_eq!(parse_time(five), Ok(Duration::from_micros(5)), "{five}");
        }
        for wrong in ["", "5", "ms", "-1ms", "0ms", "5 hours", "1e30s"] {
            assert!(parse_time(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn neighbours_that_differ_are_written_so() {
        let mebi = f64::from(1u32 << 20);
        assert_eq!(told_apart(&[0.0, 1.5 * mebi], bytes_to), ["0 B", "1.5 MiB"]);
        assert_eq!(told_apart(&[1.501 * mebi, 1.502 * mebi], bytes_to), ["1.501 MiB", "1.502 MiB"]);
        assert_eq!(
            told_apart(&[43_610.0, 43_590.0, 43_590.0], micros_to),
            ["43.61 ms", "43.59 ms", "43.59 ms"]
        );
        assert_eq!(told_apart(&[mebi, mebi + 1.0], bytes_to), ["1.000000 MiB", "1.000001 MiB"]);
        assert!(told_apart(&[], bytes_to).is_empty());
    }

    #[test]
    fn quantities_are_written() {
        assert_eq!(bytes(512.0), "512 B");
        assert_eq!(bytes(1536.0), "1.5 KiB");
        assert_eq!(count(0.0), "0");
        assert_eq!(count(2_500_000.0), "2.5 M");
        assert_eq!(time(Duration::from_nanos(1500)), "1.5 µs");
        assert_eq!(time(Duration::from_secs(2)), "2.000 s");
    }
}
