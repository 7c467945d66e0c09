//! When a login may be made that is not needed, and what becomes of one that fails.

use super::*;
use crate::portals::state::{Attempts, Expiry};

const LIMITS: Limits = Limits { attempts: 3, backoff: Duration::from_secs(5), logins_per_hour: 3 };

fn at(seconds: u64) -> Time {
    Time::from_millis(1_800_000_000_000 + seconds * 1000)
}

fn whole() -> PortalRecord {
    let mut record = PortalRecord::default();
    record.admit("a", true, "", at(0));
    record.admit("b", true, "", at(1));
    record
}

fn fail(record: &mut PortalRecord, cause: Cause, seconds: u64) -> bool {
    let failure = Failure { cause, detail: "step 3".to_owned(), at: at(seconds) };
    record.fail_upkeep(Purpose::Drill, &failure, LIMITS, "old", |pause| pause)
}

fn may(record: &PortalRecord, seconds: u64) -> bool {
    record.may_keep_up(LIMITS, "old", at(seconds))
}

#[test]
fn it_happens_only_while_nothing_else_is_the_matter() {
    let good = whole();
    assert!(may(&good, 10));
    let spoilt: [fn(&mut PortalRecord); 5] = [
        |record| record.paused = true,
        |record| record.reauth = true,
        |record| record.recovery.failures = 1,
        |record| record.recovery.given_up = Some(Cause::PageChanged),
        |record| assert_eq!(record.expire("b", "401", at(2)), Expiry::Marked),
    ];
    for (number, spoil) in spoilt.into_iter().enumerate() {
        let mut record = good.clone();
        spoil(&mut record);
        assert!(!may(&record, 10), "{number}");
    }
}

#[test]
fn the_last_login_of_the_hour_is_for_a_recovery() {
    let mut record = whole();
    record.spend_login(3, at(0)).unwrap();
    assert!(may(&record, 10));
    record.spend_login(3, at(1)).unwrap();
    assert!(!may(&record, 10), "one is left");
    let spares =
        |record: &PortalRecord| [Purpose::Drill, Purpose::Renewal, Purpose::Need].map(|why| record.spares(why));
    assert_eq!(spares(&record), [SPARED, SPARED, 0]);
    assert!(record.spend_login(3 - SPARED, at(10)).is_err(), "nor by a race");
    let mut bereft = record.clone();
    bereft.expire("a", "401", at(10));
    assert_eq!(spares(&bereft), [0; 3], "a drill under way is the recovery now");
    assert!(may(&record, 3600));
    // A clock that was set back does not free what was spent, nor lock it up for ever.
    record.not_ahead(at(0) - Duration::from_secs(86_400));
    assert!(!record.may_keep_up(LIMITS, "old", at(0) - Duration::from_secs(86_400)));
}

#[test]
fn a_failure_is_told_when_it_is_final_and_costs_no_session() {
    let mut record = whole();
    let sessions = (record.active.clone(), record.standby.clone());
    assert!(!fail(&mut record, Cause::NoSms, 10));
    assert!(!may(&record, 14) && may(&record, 15));
    assert!(!fail(&mut record, Cause::NoSms, 15));
    assert!(!may(&record, 24) && may(&record, 25) && record.alert.is_none() && record.last_drill.is_none());
    assert!(fail(&mut record, Cause::NoSms, 25));
    let alert = record.alert.clone().unwrap();
    assert!(alert.cause == Cause::NoSms && alert.detail.starts_with("a drill failed"), "{alert:?}");
    assert!(!record.last_drill.as_ref().unwrap().ok);
    assert_eq!((record.active.clone(), record.standby.clone()), sessions);
    assert_eq!((record.recovery.given_up, record.recovery.failures), (None, 0), "recovery has all its attempts");
    assert!(!may(&record, 86_424) && may(&record, 86_425), "again the next day");
    record.alert = None;
    for seconds in [86_425, 86_430] {
        assert!(!fail(&mut record, Cause::NoSms, seconds));
    }
    assert!(!fail(&mut record, Cause::NoSms, 86_440), "the same again is no news");
    assert!(record.alert.is_none());
    record.admit("c", true, "", at(90_000));
    assert_eq!(record.upkeep, Attempts::default(), "a login that succeeds ends it");
}

#[test]
fn a_wrong_password_is_tried_once_until_something_changes() {
    let mut record = whole();
    assert!(fail(&mut record, Cause::BadCredentials, 10));
    assert!(!may(&record, 1_000_000));
    assert!(record.may_keep_up(LIMITS, "new", at(11)));
    record.start_over();
    assert!(may(&record, 11), "an operator has asked");
}

#[test]
fn what_says_nothing_about_the_account_is_put_off_for_ever() {
    let mut record = whole();
    for n in 0..10 {
        assert!(!fail(&mut record, Cause::PortalDown, n * 3600));
        assert!(!may(&record, n * 3600 + 3599) && may(&record, n * 3600 + 3600), "{n}");
    }
    assert!(record.alert.is_none() && record.last_drill.is_none());
}

#[test]
fn a_clock_that_was_set_back_puts_nothing_off_for_long() {
    let mut record = whole();
    fail(&mut record, Cause::NoSms, 10);
    fail(&mut record, Cause::NoSms, 20);
    fail(&mut record, Cause::NoSms, 40);
    let month = Duration::from_secs(30 * 86_400);
    let past = at(0) - month;
    record.not_ahead(past);
    assert!(record.may_keep_up(LIMITS, "old", past) && !record.is_ahead(past));
    assert!(record.last_drill.unwrap().at <= past);
}
