//! Our clock as governor reads it: what has passed, whatever becomes of the time of day, and held when the test holds it.

use governor::clock;
use governor::nanos::Nanos;

use super::Clock;

impl clock::Clock for Clock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.passed().into()
    }
}
