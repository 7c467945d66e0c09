//! What observations teach, and what they do not.

use super::*;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const CHECKS: Duration = Duration::from_secs(64);

fn at(minutes: u32) -> Time {
    Time::from_millis(1_800_000_000_000) + MINUTE * minutes
}

/// A session that logged in at `born`, was used at least every `pause` up to the age of `age`, and was found dead after
/// the pause `last`.
fn end(lives: &mut Lives, born: Time, age: Duration, pause: Duration, last: Duration) {
    let pulse = Pulse { alive_at: born + age, pause: millis(pause) };
    lives.ended(born, &pulse, born + age + last);
}

fn learned(lives: &Lives) -> Learned {
    lives.learned(std::iter::empty(), at(1_000_000))
}

/// One session a day that is checked every minute and ends at the age of 12 hours.
fn twelve_hours(days: u32) -> Lives {
    let mut lives = Lives::default();
    for day in 0..days {
        end(&mut lives, at(day * 1440), HOUR * 12 - MINUTE * (day % 3), CHECKS, CHECKS);
    }
    lives
}

#[test]
fn sessions_that_end_while_checked_every_minute_end_of_age() {
    assert_eq!(learned(&twelve_hours(2)), Learned { observations: 2, ..Learned::default() }, "two may be chance");
    let three = learned(&twelve_hours(3));
    assert_eq!((three.absolute, three.idle, three.observations), (Some(HOUR * 12 - MINUTE * 2), None, 3));
    assert_eq!(learned(&twelve_hours(100)).observations, LIVES, "what is kept is bounded");
}

#[test]
fn sessions_that_end_in_a_longer_pause_than_any_before_end_of_idleness() {
    let mut lives = Lives::default();
    for (day, pause) in [(0, 40), (1, 35), (2, 500)] {
        end(&mut lives, at(day * 1440), HOUR * (3 + day), MINUTE * 5, MINUTE * pause);
    }
    assert_eq!(learned(&lives), Learned { absolute: None, idle: Some(MINUTE * 35), observations: 3 });
    // A session that comes through such a pause proves the contrary.
    let survivor = Pulse { alive_at: at(5000), pause: millis(MINUTE * 36) };
    let living = [(at(4000), &survivor)];
    assert_eq!(lives.learned(living.into_iter(), at(5000)).idle, None);
}

#[test]
fn a_pause_in_which_a_session_ended_says_nothing_while_others_survive_longer_ones() {
    // Used all day, ended by hand before its first pause.
    let mut lives = Lives::default();
    for day in 0..5 {
        end(&mut lives, at(day * 1440), HOUR, Duration::from_secs(2), CHECKS);
    }
    let other = Pulse { alive_at: at(9000), pause: millis(CHECKS * 2) };
    let living = [(at(0), &other)];
    let learned = lives.learned(living.into_iter(), at(9000));
    assert_eq!((learned.idle, learned.absolute), (None, None));
}

#[test]
fn single_ends_and_ends_of_everything_teach_nothing() {
    let mut lives = twelve_hours(3);
    // A logout by hand, a password change: any age.
    for (day, hours) in [(10, 1), (11, 5), (12, 2)] {
        end(&mut lives, at(day * 1440), HOUR * hours, CHECKS, CHECKS);
    }
    assert_eq!(learned(&lives).absolute, Some(HOUR * 12 - MINUTE * 2));
    // The portal is deployed every night: all sessions end, one of them always an hour old.
    let mut lives = Lives::default();
    for day in 1..9 {
        let night = at(day * 1440);
        end(&mut lives, night - HOUR, HOUR, CHECKS, CHECKS);
        end(&mut lives, night - HOUR * 9, HOUR * 9 + MINUTE, CHECKS, CHECKS);
    }
    assert_eq!(learned(&lives), Learned { observations: 16, ..Learned::default() });
}

#[test]
fn two_sessions_of_one_age_that_end_together_are_one_observation() {
    let mut lives = Lives::default();
    for day in 0..2 {
        end(&mut lives, at(day * 1440), HOUR * 12, CHECKS, CHECKS);
        end(&mut lives, at(day * 1440 + 1), HOUR * 12, CHECKS, CHECKS);
    }
    assert_eq!(learned(&lives).absolute, None);
    end(&mut lives, at(2 * 1440), HOUR * 12, CHECKS, CHECKS);
    assert_eq!(learned(&lives).absolute, Some(HOUR * 12));
}

#[test]
fn a_session_that_grows_older_disproves_a_limit_until_it_is_seen_again() {
    let mut lives = twelve_hours(3);
    let old = Pulse { alive_at: at(10 * 1440), pause: millis(CHECKS) };
    let living = [(at(9 * 1440), &old)];
    assert_eq!(lives.learned(living.into_iter(), at(10 * 1440)).absolute, None, "it is a day old");
    // The portal changed its mind: from now on eight hours, though sessions were older once.
    lives.replaced(at(9 * 1440), &old, at(10 * 1440));
    for day in 11..14 {
        assert_eq!(learned(&lives).absolute, None, "{day}");
        end(&mut lives, at(day * 1440), HOUR * 8, CHECKS, CHECKS);
    }
    assert_eq!(learned(&lives).absolute, Some(HOUR * 8));
}

#[test]
fn renewed_sessions_do_not_push_out_what_was_learned() {
    let mut lives = twelve_hours(3);
    for day in 20..200 {
        let pulse = Pulse { alive_at: at(day * 1440 + 600), pause: millis(CHECKS) };
        lives.replaced(at(day * 1440), &pulse, at(day * 1440 + 600));
    }
    let kept = learned(&lives);
    assert_eq!((kept.absolute, kept.observations), (Some(HOUR * 12 - MINUTE * 2), 3));
    assert_eq!(lives.0.len(), 4);
}

#[test]
fn a_pulse_is_written_seldom_and_a_longer_pause_at_once() {
    let kept = Pulse::new(at(0));
    let beat = |minutes, pause| kept.with(Some(at(minutes)), pause);
    assert!(kept.is_behind(&beat(10, Duration::ZERO)) && !kept.is_behind(&beat(9, Duration::ZERO)));
    let paused = Pulse { pause: 60_000, ..kept.clone() };
    assert!(!paused.is_behind(&paused.with(None, Duration::from_secs(66))));
    assert!(paused.is_behind(&paused.with(None, Duration::from_secs(90))));
}
