//! Measures how the cost of a request grows with its size.

/// Slope of the line fitted to the points `(ln size, ln cost)`: 1 for a cost proportional to the size, 2 for a cost
/// proportional to the square of the size.
pub fn slope(points: &[(f64, f64)]) -> f64 {
    let logs: Vec<(f64, f64)> = points.iter().map(|(size, cost)| (size.ln(), cost.ln())).collect();
    #[expect(clippy::cast_precision_loss, reason = "four points")]
    let count = logs.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| logs.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|log| log.0), mean(|log| log.1));
    let shared: f64 = logs.iter().map(|log| (log.0 - x) * (log.1 - y)).sum();
    let spread: f64 = logs.iter().map(|log| (log.0 - x).powi(2)).sum();
    shared / spread
}

#[test]
fn slope_tells_linear_quadratic_and_mostly_fixed_costs_apart() {
    let of = |cost: fn(f64) -> f64| slope(&[1.0, 3.0, 9.0, 27.0].map(|size| (size, cost(size))));
    assert!((of(|size| 7.0 * size) - 1.0).abs() < 1e-9);
    assert!((of(|size| 0.1 * size * size) - 2.0).abs() < 1e-9);
    assert!(of(|size| 5.0 + size) < 1.0);
    assert!(of(|size| 1.0 + size + 0.1 * size * size) > 1.1);
}
