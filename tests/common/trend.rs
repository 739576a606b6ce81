// SPDX-License-Identifier: MIT

//! Whether a series of figures rises.

/// The slope of a line through points, and its standard error.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Slope {
    pub value: f64,
    pub error: f64,
}

/// The line of least squares through (x, y); `None` for fewer than three values of x.
pub fn slope(points: &[(f64, f64)]) -> Option<Slope> {
    let n = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / n;
    let (mean_x, mean_y) = (mean(|p| p.0), mean(|p| p.1));
    let spread: f64 = points.iter().map(|p| (p.0 - mean_x).powi(2)).sum();
    if points.len() < 3 || spread == 0.0 {
        return None;
    }
    let together = points.iter().map(|p| (p.0 - mean_x) * (p.1 - mean_y));
    let value = together.sum::<f64>() / spread;
    let off = points.iter().map(|p| p.1 - mean_y - value * (p.0 - mean_x));
    let variance = off.map(|off| off * off).sum::<f64>() / (n - 2.0);
    Some(Slope {
        value,
        error: (variance / spread).sqrt(),
    })
}

/// The middle of the values, which this sorts.
pub fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slope_of_straight_line_has_no_error() {
        let line: Vec<_> = (0..9)
            .map(|x| (f64::from(x), 3.0 + 2.0 * f64::from(x)))
            .collect();
        let slope = slope(&line).unwrap();
        assert!((slope.value - 2.0).abs() < 1e-9 && slope.error < 1e-9);
    }

    #[test]
    fn slope_of_noise_is_within_its_error() {
        let noise: Vec<_> = (0..100)
            .map(|x| (f64::from(x), f64::from(x * 7919 % 13)))
            .collect();
        let slope = slope(&noise).unwrap();
        assert!(slope.value.abs() < 2.0 * slope.error, "{slope:?}");
    }

    #[test]
    fn slope_needs_three_points() {
        assert_eq!(slope(&[(0.0, 1.0), (1.0, 2.0)]), None);
        assert_eq!(slope(&[(1.0, 1.0); 5]), None);
    }
}
