//! When logins are made that are not needed yet: pure arithmetic on moments, so that a restart comes to the same answer.
//!
//! What must be drawn by lot is drawn from the moment of the session's login: twenty portals do not meet at the phone, and
//! nothing has to be remembered.

use std::time::Duration;

use super::state::Slot;
use crate::clock::{Hours, Time};

/// Sessions that end sooner than this are not renewed: that would be one login after the other.
const SHORTEST_LIFE: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
/// Keep-alive checks never come faster than this, whatever idle limit was learned.
const FASTEST_CHECK: Duration = Duration::from_secs(10);

/// When the session in `slot` gives way to a fresh one where sessions end at the age `limit`: in quiet hours if there are
/// any in the later part of its life, else while there is still time for several attempts. `twin` is the session in the
/// other place; the two are kept about a quarter of a life apart, for which the `standby` goes early.
pub(super) fn renewal(slot: &Slot, twin: &Slot, limit: Duration, standby: bool, hours: Hours) -> Option<Time> {
    if limit < SHORTEST_LIFE {
        return None;
    }
    let (born, other) = (slot.authenticated_at, twin.authenticated_at);
    let apart = born.since(other).max(other.since(born));
    let (early, late) = if standby && apart < limit / 5 {
        (born + limit / 4, born + limit / 2)
    } else {
        (born + limit / 2, born + limit * 17 / 20)
    };
    let early = early.max(other + limit / 4).min(late);
    // The last quiet hours before it is late: every night longer is a login less.
    let (mut from, mut to) = hours.after(early.max(late - DAY));
    let mut quiet = None;
    while from < late && from < to {
        quiet = Some((from.max(early), to.min(late)));
        (from, to) = hours.after(to);
    }
    let (from, to) = quiet.unwrap_or((late - limit / 20, late));
    Some(somewhere(from, to, born))
}

/// When the next drill is due after one, or a login that was as good, at `last`: in the quiet hours nearest to the end of
/// the period, or right then where the period is shorter than a day.
pub(super) fn drill(last: Time, period: Duration, hours: Hours) -> Time {
    if period < DAY {
        return last + period;
    }
    let earliest = last + period - DAY / 2;
    let (from, to) = hours.after(earliest);
    somewhere(from.max(earliest), to, last)
}

/// How often sessions are checked: as the recipe says, unless they are known to end in pauses of that length.
pub(super) fn check_every(every: Duration, idle: Option<Duration>) -> Duration {
    match idle {
        // A check may come a tenth late.
        Some(idle) if every * 11 / 10 >= idle => every.min((idle / 2).max(FASTEST_CHECK)),
        _ => every,
    }
}

/// A moment between the two that depends on nothing but `lot`.
fn somewhere(from: Time, to: Time, lot: Time) -> Time {
    const PARTS: u32 = 997;
    let part = u32::try_from(lot.as_millis() % u64::from(PARTS)).unwrap_or(0);
    from + to.since(from) / PARTS * part
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::portals::learning::Pulse;

    const HOUR: Duration = Duration::from_secs(3600);
    const NIGHT: &str = "02:00-05:00";

    fn at(hours: u64) -> Time {
        // A number of milliseconds that is no whole hour, as real logins have it.
        Time::from_millis(1_800_000_123_456) + HOUR * u32::try_from(hours).unwrap()
    }

    fn slot(born: Time) -> Slot {
        Slot { session_id: String::new(), expired: false, authenticated_at: born, pulse: Pulse::new(born) }
    }

    fn is_quiet(moment: Time) -> bool {
        let (from, to) = NIGHT.parse::<Hours>().unwrap().after(moment);
        from <= moment && moment < to
    }

    #[test]
    fn a_session_is_renewed_by_night_when_its_life_is_long_enough() {
        let hours = NIGHT.parse().unwrap();
        for limit in [7, 14, 30].map(|days| DAY * days) {
            for hour in 0..48 {
                let (born, twin) = (at(1000 + hour), slot(at(0)));
                let due = renewal(&slot(born), &twin, limit, true, hours).unwrap();
                assert!(due >= born + limit / 4 && due <= born + limit * 17 / 20, "{limit:?} {hour}");
                assert!(is_quiet(due), "{limit:?} {hour}: {}", due.local());
            }
        }
        let short = renewal(&slot(at(0)), &slot(at(1000)), HOUR * 2, false, hours).unwrap();
        assert!(short >= at(1) && short <= at(0) + HOUR * 17 / 10, "no night is in it: in time anyway");
        assert_eq!(renewal(&slot(at(0)), &slot(at(0)), HOUR / 2, true, hours), None);
    }

    #[test]
    fn two_sessions_of_one_age_drift_apart_and_stay_apart() {
        let hours = NIGHT.parse().unwrap();
        for limit in [HOUR, HOUR * 12, DAY, DAY * 7, DAY * 30] {
            let (mut active, mut standby) = (slot(at(0)), slot(at(0)));
            for round in 0..50 {
                let [one, two] = [
                    renewal(&active, &standby, limit, false, hours).unwrap(),
                    renewal(&standby, &active, limit, true, hours).unwrap(),
                ];
                let due = one.min(two);
                if one < two {
                    std::mem::swap(&mut active, &mut standby);
                }
                assert!(due < standby.authenticated_at + limit * 9 / 10, "{limit:?} {round}: in time");
                standby = slot(due);
                let apart = standby.authenticated_at.since(active.authenticated_at);
                assert!(apart >= limit / 5, "{limit:?} {round}: {apart:?}");
            }
            let lived = standby.authenticated_at.since(at(0));
            assert!(limit * 50 / 4 <= lived, "not more logins than that takes: {limit:?} {lived:?}");
        }
    }

    #[test]
    fn a_drill_comes_at_night_about_a_period_later() {
        let hours = NIGHT.parse().unwrap();
        for hour in 0..48 {
            let due = drill(at(hour), DAY * 7, hours);
            let apart = due.since(at(hour));
            assert!(is_quiet(due) && apart >= DAY * 13 / 2 && apart <= DAY * 8, "{apart:?}");
        }
        assert_eq!(drill(at(0), HOUR, hours), at(1));
        let distinct: std::collections::BTreeSet<_> =
            (0..20).map(|n| drill(at(0) + Duration::from_millis(n), DAY * 7, hours)).collect();
        assert_eq!(distinct.len(), 20, "portals do not meet");
    }

    #[test]
    fn checks_come_faster_only_where_sessions_would_end_between_them() {
        let minutes = |n: u64| Duration::from_secs(60 * n);
        assert_eq!(check_every(minutes(1), None), minutes(1));
        assert_eq!(check_every(minutes(1), Some(minutes(30))), minutes(1));
        assert_eq!(check_every(minutes(30), Some(minutes(20))), minutes(10));
        assert_eq!(check_every(minutes(30), Some(minutes(32))), minutes(16), "a check may come late");
        assert_eq!(check_every(minutes(1), Some(Duration::from_secs(5))), Duration::from_secs(10));
        assert_eq!(check_every(Duration::from_secs(5), Some(Duration::from_secs(4))), Duration::from_secs(5));
    }
}
