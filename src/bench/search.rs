//! The highest rate with next to no loss: upwards in large steps until one fails, then between the last two.

use super::figures::Figures;

/// From one rate to the next on the way up.
const GROWTH: f64 = 1.6;
/// Halvings between the last good rate and the first bad one: to within 3 %.
const HALVINGS: usize = 4;
/// A search that has not failed by then ends.
const STEPS: usize = 24;

/// What a search found.
#[derive(Debug, Default)]
pub struct Found {
    /// The best step that stayed under the loss allowed.
    pub best: Option<Figures>,
    /// The generator was the limit, or the rate's bound was: the server might do more.
    pub is_lower_bound: bool,
}

/// Searches from `first` packets per second up to `most`; `run` does a step at a rate. A step that fails is done once more.
pub fn search<E>(
    first: f64,
    most: f64,
    allowed_loss: f64,
    mut run: impl FnMut(f64) -> Result<Figures, E>,
) -> Result<Found, E> {
    let mut found = Found::default();
    let (mut good, mut bad) = (0.0, None);
    let mut rate = first.min(most);
    let mut halvings = 0;
    for _ in 0..STEPS {
        let mut figures = run(rate)?;
        if figures.loss() > allowed_loss || figures.limited_by_generator {
            // A machine that stands still for a moment fails any server, and the fastest first: that is not its rate.
            figures = run(rate)?;
        }
        let is_good = figures.loss() <= allowed_loss;
        if is_good && !figures.limited_by_generator {
            good = rate;
            found.best = Some(figures);
        } else {
            found.is_lower_bound = is_good || figures.limited_by_generator;
            bad = Some(rate);
        }
        rate = match bad {
            None if rate >= most => {
                found.is_lower_bound = true;
                return Ok(found);
            }
            None => (rate * GROWTH).min(most),
            Some(bad) if good == 0.0 && bad > 1.0 => bad / GROWTH,
            Some(bad) => {
                halvings += 1;
                if halvings > HALVINGS {
                    return Ok(found);
                }
                (good * bad).sqrt()
            }
        };
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::figures::WayFigures;

    fn server(capacity: f64) -> impl FnMut(f64) -> Result<Figures, ()> {
        move |rate| {
            let delivered = rate.min(capacity) as u64;
            let way = WayFigures { offered: rate as u64, delivered, ..WayFigures::default() };
            Ok(Figures { rate, ways: [way, WayFigures::default()], ..Figures::default() })
        }
    }

    #[test]
    fn a_capacity_is_found_within_four_percent() {
        for capacity in [1_500.0, 20_000.0, 333_333.0] {
            let found = search(10_000.0, 1e6, 0.001, server(capacity)).expect("no step fails");
            let rate = found.best.expect("found").rate;
            assert!(!found.is_lower_bound && rate <= capacity * 1.002 && rate > capacity * 0.96, "{capacity}: {rate}");
        }
    }

    #[test]
    fn a_moment_of_standstill_hides_no_capacity() {
        let (mut server, mut steps) = (server(333_333.0), 0);
        let found = search(10_000.0, 1e6, 0.001, |rate| {
            steps += 1;
            server(if steps % 3 == 2 { 1e9 } else { rate })
        });
        let rate = found.expect("no step fails").best.expect("found").rate;
        assert!(rate > 333_333.0 * 0.96, "{rate}");
    }

    #[test]
    fn bounds_are_named() {
        let found = search(10_000.0, 40_000.0, 0.001, server(1e9)).expect("no step fails");
        assert!(found.is_lower_bound);
        assert_eq!(found.best.map(|best| best.rate), Some(40_000.0));
        let mut server = server(1e9);
        let slow = |rate| {
            let figures = server(rate)?;
            Ok::<_, ()>(Figures { limited_by_generator: rate > 30_000.0, ..figures })
        };
        let found = search(10_000.0, 1e6, 0.001, slow).expect("no step fails");
        assert!(found.is_lower_bound && found.best.expect("found").rate > 28_000.0);
    }
}
