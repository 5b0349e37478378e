//! What a setting's text becomes, and what is refused: a value that the process could start with and not work with.
use hearth_core::auth::grant::Acts;
use hearth_edge::{config::network::Network, link};
use std::{ops::RangeInclusive, time::Duration};

/// Ten years: for a person as good as for ever, and a moment that every clock can still name.
pub const LONGEST: Duration = Duration::from_secs(10 * 31_557_600);

/// A duration as `30s` or `1h 30m`, within these bounds.
pub fn duration(bounds: RangeInclusive<Duration>) -> impl Fn(&str) -> Result<Duration, String> + Clone {
    move |text| {
        let duration = humantime::parse_duration(text).map_err(|error| error.to_string())?;
        let (least, most) = (bounds.start(), bounds.end());
        if duration < *least {
            return Err(format!("it must be at least {}", humantime::format_duration(*least)));
        }
        if duration > *most {
            return Err(format!("it must be at most {}", humantime::format_duration(*most)));
        }
        Ok(duration)
    }
}

/// A number of bytes within these bounds.
pub fn bytes(bounds: RangeInclusive<usize>) -> impl Fn(&str) -> Result<usize, String> + Clone {
    move |text| {
        let bytes = text.parse().map_err(|_| "it must be a number of bytes".to_owned())?;
        let (least, most) = (*bounds.start(), *bounds.end());
        if bytes < least {
            return Err(format!("it must be at least {least} bytes"));
        }
        if bytes > most {
            return Err(format!("it must be at most {most} bytes"));
        }
        Ok(bytes)
    }
}

/// A TOML value as it would be typed behind its flag.
pub fn as_flag(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Boolean(on) => Some(on.to_string()),
        toml::Value::Array(items) => {
            items.iter().map(|item| item.as_str()).collect::<Option<Vec<_>>>().map(|items| items.join(","))
        }
        _ => None,
    }
}

/// What is allowed in rooms: names with commas between them.
pub fn acts(text: &str) -> Result<Acts, String> {
    let names: Vec<&str> = text.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    let acts = Acts::named(names.iter().copied());
    match names.iter().find(|name| !acts.names().any(|known| known == **name)) {
        Some(unknown) => Err(format!("{unknown} is none of join, publish, history, presence, signal")),
        None => Ok(acts),
    }
}

/// On or off, in the words that people put into files and environments.
pub fn switch(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "on" | "true" | "yes" | "1" => Ok(true),
        "off" | "false" | "no" | "0" => Ok(false),
        _ => Err("it must be on or off (true or false, yes or no, 1 or 0)".to_owned()),
    }
}

/// A core's address that a link can be made to, still as text.
pub fn core_url(text: &str) -> Result<String, String> {
    match link::is_secure(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// An address or a network.
pub fn network(text: &str) -> Result<Network, String> {
    text.trim().parse().map_err(|error: hearth_edge::config::network::NoNetwork| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_out_of_bounds_is_told_the_bound() {
        let heartbeat = duration(Duration::from_millis(100)..=LONGEST);
        for text in ["100ms", "25s", "1h 30m"] {
            assert!(heartbeat(text).is_ok(), "{text}");
        }
        for (text, said) in [
            ("0s", "it must be at least 100ms"),
            ("99ms", "it must be at least 100ms"),
            ("11years", "it must be at most 10years"),
            ("soon", "expected number"),
        ] {
            let error = heartbeat(text).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
        let queue = bytes(10..=20);
        assert_eq!(
            ["9", "10", "20", "21", "-1", "1k"].map(|text| queue(text).is_ok()),
            [false, true, true, false, false, false]
        );
        assert_eq!(queue("9"), Err("it must be at least 10 bytes".to_owned()));
    }

    #[test]
    fn a_switch_takes_the_usual_words() {
        for (on, off) in [("1", "0"), ("true", "false"), ("on", "off"), ("yes", "no"), ("TRUE", "False")] {
            assert_eq!((switch(on), switch(off)), (Ok(true), Ok(false)));
        }
        assert!(switch("maybe").is_err() && switch("").is_err());
    }
}
