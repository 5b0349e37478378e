//! Medians and their like.

/// The middle of the values; 0 of none.
pub fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// The value below which this part of the values lies; 0 of none.
pub fn quantile(values: &[f64], part: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    let place = part.clamp(0.0, 1.0) * last as f64;
    let (below, above) = (place.floor() as usize, place.ceil() as usize);
    sorted[below] + (sorted[above] - sorted[below]) * place.fract()
}

/// A number as a person reads it: three digits that matter, thousands apart.
pub fn readable(value: f64) -> String {
    if value >= 1000.0 {
        let digits = format!("{value:.0}");
        let grouped = digits.bytes().enumerate().fold(String::new(), |mut out, (at, digit)| {
            if at > 0 && (digits.len() - at).is_multiple_of(3) {
                out.push(',');
            }
            out.push(char::from(digit));
            out
        });
        return grouped;
    }
    match value {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(&[]), 0.0);
        assert_eq!(median(&[3.0]), 3.0);
        assert_eq!(median(&[9.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
    }

    #[test]
    fn quantiles() {
        let values: Vec<f64> = (0..=100).map(f64::from).collect();
        assert_eq!(quantile(&values, 0.99), 99.0);
        assert_eq!(quantile(&values, 0.0), 0.0);
        assert_eq!(quantile(&values, 2.0), 100.0);
    }

    #[test]
    fn numbers_for_a_person() {
        let shown = [0.0, 0.123, 12.34, 123.4, 1000.0, 1234567.8].map(readable);
        assert_eq!(shown, ["0.00", "0.12", "12.3", "123", "1,000", "1,234,568"]);
    }
}
