//! Hours of the day in the host's own zone, for work that should not meet anybody. Knows zones and their odd days, nothing of
//! what is done in these hours.

use std::fmt;
use std::str::FromStr;

use jiff::ToSpan;
use jiff::civil;
use jiff::tz::TimeZone;

use super::Time;

/// A stretch of every day, in the host's zone: `02:00-05:00`, or over midnight `23:00-04:00`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hours {
    from: civil::Time,
    to: civil::Time,
}

/// The text names no hours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected two times of a day, as in \"02:00-05:00\" or \"23:00-04:00\"")]
pub struct InvalidHours;

impl Default for Hours {
    /// From two to five at night, when few people work and most portals do.
    fn default() -> Self {
        Self { from: civil::time(2, 0, 0, 0), to: civil::time(5, 0, 0, 0) }
    }
}

impl Hours {
    /// The first of these stretches that ends after `moment`: it may have begun.
    pub fn after(self, moment: Time) -> (Time, Time) {
        self.after_in(moment, &TimeZone::system())
    }

    fn after_in(self, moment: Time, zone: &TimeZone) -> (Time, Time) {
        let today = moment.jiff().to_zoned(zone.clone()).date();
        let at = |day: civil::Date, time: civil::Time| {
            // What a change of the clocks leaves out of a day is taken as the moment after it.
            let zoned = zone.to_ambiguous_zoned(day.to_datetime(time)).compatible().ok()?;
            u64::try_from(zoned.timestamp().as_millisecond()).ok().map(Time::from_millis)
        };
        let stretch = |days: i64| {
            let begins = today.checked_add(days.days()).ok()?;
            let ends = if self.to > self.from { begins } else { begins.tomorrow().ok()? };
            Some((at(begins, self.from)?, at(ends, self.to)?))
        };
        let found = (-1..=2).filter_map(stretch).find(|(_, ends)| *ends > moment);
        // Only at the end of the calendar, 7,900 years from now, is there none.
        found.unwrap_or((moment, moment))
    }
}

impl FromStr for Hours {
    type Err = InvalidHours;

    fn from_str(text: &str) -> Result<Self, InvalidHours> {
        let time = |text: &str| {
            let (hour, minute) = text.split_once(':')?;
            let number = |digits: &str, limit| {
                let plain = digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit());
                digits.parse::<i8>().ok().filter(|number| plain && *number < limit)
            };
            civil::Time::new(number(hour, 24)?, number(minute, 60)?, 0, 0).ok()
        };
        let (from, to) = text.split_once('-').ok_or(InvalidHours)?;
        let (from, to) = (time(from.trim()).ok_or(InvalidHours)?, time(to.trim()).ok_or(InvalidHours)?);
        if from == to { Err(InvalidHours) } else { Ok(Self { from, to }) }
    }
}

impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.from.strftime("%H:%M"), self.to.strftime("%H:%M"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(hours: &str, zone: &str, moment: &str) -> [String; 2] {
        let zone = TimeZone::get(zone).unwrap();
        let (from, to) = hours.parse::<Hours>().unwrap().after_in(moment.parse().unwrap(), &zone);
        [from, to].map(|at| at.to_string().replace(":00.000Z", ""))
    }

    #[test]
    fn the_next_hours_are_those_of_the_zone() {
        for (moment, from, to) in [
            ("2026-11-20T10:00:00Z", "2026-11-20T17:00", "2026-11-20T20:00"),
            ("2026-11-20T17:30:00Z", "2026-11-20T17:00", "2026-11-20T20:00"),
            ("2026-11-20T20:00:00Z", "2026-11-21T17:00", "2026-11-21T20:00"),
        ] {
            assert_eq!(next("02:00-05:00", "Asia/Seoul", moment), [from, to], "{moment}");
        }
        for (moment, from) in
            [("2026-11-20T00:00:00Z", "2026-11-19T23:00"), ("2026-11-20T04:00:00Z", "2026-11-20T23:00")]
        {
            assert_eq!(next("23:00-04:00", "UTC", moment)[0], from, "{moment}");
        }
    }

    #[test]
    fn hours_that_a_day_leaves_out_or_has_twice_are_still_some() {
        let [from, to] = next("02:15-02:45", "Europe/Berlin", "2026-03-28T12:00:00Z");
        assert!(from < to, "{from} {to}");
        assert_eq!(
            next("02:00-05:00", "Europe/Berlin", "2026-10-24T12:00:00Z"),
            ["2026-10-25T00:00", "2026-10-25T04:00"]
        );
    }

    #[test]
    fn what_names_no_hours_is_refused() {
        for good in ["02:00-05:00", "23:30 - 00:15"] {
            assert!(good.parse::<Hours>().is_ok(), "{good}");
        }
        for bad in ["", "02:00", "2:00-5:00", "02:00-24:00", "02:00-02:00", "02:60-03:00", "+2:00-03:00", "aa:bb-cc:dd"]
        {
            assert_eq!(bad.parse::<Hours>(), Err(InvalidHours), "{bad}");
        }
        assert_eq!("23:30-00:15".parse::<Hours>().unwrap().to_string(), "23:30-00:15");
    }
}
