//! The rules of a portal's record, one by one.

use super::history::EVENTS;
use super::*;

const LIMITS: Limits = Limits { attempts: 3, backoff: Duration::from_secs(5), logins_per_hour: 5 };

fn at(seconds: u64) -> Time {
    Time::from_millis(1_800_000_000_000 + seconds * 1000)
}

fn two_sessions() -> PortalRecord {
    let mut record = PortalRecord::default();
    record.admit("a", true, "", at(0));
    record.admit("b", true, "", at(1));
    record
}

fn failure(cause: Cause, seconds: u64) -> Failure {
    Failure { cause, detail: "x".to_owned(), at: at(seconds) }
}

#[test]
fn an_expired_active_session_is_replaced_by_the_standby_once() {
    let mut record = two_sessions();
    assert_eq!(record.epoch, 1);
    assert_eq!(record.expire("a", "401", at(2)), Expiry::Promoted);
    assert_eq!((record.epoch, record.serving().unwrap().session_id.as_str()), (2, "b"));
    assert_eq!(record.expire("a", "401", at(2)), Expiry::Known);
    assert_eq!(record.expire("b", "401", at(3)), Expiry::Marked);
    assert_eq!((record.epoch, record.serving()), (2, None));
    assert!(record.reinstate("a", "second look", at(4)));
    assert_eq!((record.epoch, record.serving().unwrap().session_id.as_str()), (3, "a"));
}

#[test]
fn other_credentials_begin_with_attempts_and_pauses_of_their_own() {
    let mut record = PortalRecord::default();
    assert!(record.fail(&failure(Cause::BadCredentials, 0), LIMITS, "b1", |pause| pause));
    record.begin_login("s", "", "b1", at(1));
    assert_eq!(record.recovery.given_up, Some(Cause::BadCredentials), "nothing has changed");
    record.begin_login("s", "", "b2", at(2));
    assert!(!record.fail(&failure(Cause::PortalDown, 3), LIMITS, "b2", |pause| pause));
    assert_eq!((record.recovery.failures, record.may_log_in(at(4), "b2")), (1, false), "it waits its pause");
    assert!(record.may_log_in(at(8), "b2"));
}

#[test]
fn a_fresh_login_fills_the_place_that_needs_it() {
    let mut record = two_sessions();
    record.expire("a", "401", at(2));
    let (role, replaced) = record.admit("c", true, "", at(3));
    assert_eq!((role, replaced.unwrap().session_id.as_str()), (Role::Standby, "a"));
    record.reauth = true;
    let (role, replaced) = record.admit("d", true, "", at(4));
    assert_eq!((role, replaced.unwrap().session_id.as_str()), (Role::Active, "c"));
    assert_eq!(record.ready_standby().unwrap().session_id, "b");
}

#[test]
fn a_session_that_came_back_during_a_login_keeps_serving() {
    let mut record = two_sessions();
    record.expire("a", "401", at(2));
    record.expire("b", "401", at(3));
    // A login for the active place is under way when a second look finds one of the two alive.
    record.reinstate("a", "second look", at(4));
    let epoch = record.epoch;
    let (role, replaced) = record.admit("c", true, "", at(5));
    assert_eq!((role, replaced.unwrap().session_id.as_str()), (Role::Standby, "b"));
    assert_eq!((record.serving().unwrap().session_id.as_str(), record.epoch), ("a", epoch));
}

#[test]
fn where_one_session_is_tolerated_a_fresh_login_leaves_no_standby() {
    let mut record = PortalRecord::default();
    record.admit("a", false, "", at(0));
    record.reauth = true;
    let (role, replaced) = record.admit("b", false, "", at(1));
    assert_eq!((role, replaced.unwrap().session_id.as_str()), (Role::Active, "a"));
    assert_eq!((record.epoch, record.standby), (2, None));
}

#[test]
fn one_session_is_left_and_it_is_one_that_lives() {
    let mut record = two_sessions();
    record.leave_one(at(2));
    assert_eq!((record.serving().unwrap().session_id.as_str(), &record.standby, record.epoch), ("a", &None, 1));
    let mut record = two_sessions();
    record.active.as_mut().unwrap().expired = true;
    record.leave_one(at(2));
    assert_eq!((record.serving().unwrap().session_id.as_str(), &record.standby, record.epoch), ("b", &None, 2));
}

#[test]
fn a_wrong_password_is_tried_once_until_something_changes() {
    let mut record = PortalRecord::default();
    assert!(record.fail(&failure(Cause::BadCredentials, 0), LIMITS, "old", |pause| pause));
    assert!(!record.may_log_in(at(1_000_000), "old"));
    assert!(record.may_log_in(at(1), "new"));
    record.start_over();
    assert!(record.may_log_in(at(1), "old"));
}

#[test]
fn a_login_that_was_asked_for_has_all_its_attempts() {
    let mut record = two_sessions();
    (record.reauth, record.recovery.retry_at) = (true, Some(at(9_000)));
    record.start_over();
    assert!(record.may_log_in(at(10), ""), "at once");
    assert!(!record.fail(&failure(Cause::NoSms, 10), LIMITS, "", |pause| pause));
    assert!(record.reauth && !record.may_log_in(at(14), "") && record.may_log_in(at(15), ""));
    assert!(!record.fail(&failure(Cause::NoSms, 15), LIMITS, "", |pause| pause));
    assert!(record.fail(&failure(Cause::NoSms, 25), LIMITS, "", |pause| pause));
    assert!(!record.reauth && record.alert.is_some());
}

#[test]
fn attempts_back_off_and_end() {
    let mut record = PortalRecord::default();
    assert!(!record.fail(&failure(Cause::NoSms, 0), LIMITS, "", |pause| pause));
    assert!(!record.may_log_in(at(4), "") && record.may_log_in(at(5), ""));
    assert!(!record.fail(&failure(Cause::NoSms, 5), LIMITS, "", |pause| pause));
    assert!(!record.may_log_in(at(14), "") && record.may_log_in(at(15), ""));
    assert!(record.alert.is_none());
    assert!(record.fail(&failure(Cause::NoSms, 15), LIMITS, "", |pause| pause));
    assert_eq!(record.alert.as_ref().unwrap().cause, Cause::NoSms);
    assert!(!record.may_log_in(at(16), "") && record.may_log_in(at(15 + 3600), ""));
}

#[test]
fn a_slow_retry_that_fails_as_before_asks_nobody_again() {
    let mut record = PortalRecord::default();
    let fail = |record: &mut PortalRecord, cause, seconds, basis| {
        let news = record.fail(&failure(cause, seconds), Limits { attempts: 1, ..LIMITS }, basis, |pause| pause);
        let alert = record.alert.as_mut().unwrap();
        assert_eq!(news, !std::mem::replace(&mut alert.raised, true));
        news
    };
    assert!(fail(&mut record, Cause::PortalDown, 0, "a"));
    assert!(!fail(&mut record, Cause::PortalDown, 60, "a"));
    assert!(record.may_log_in(at(120), "a") && !record.may_log_in(at(119), "a"));
    assert!(fail(&mut record, Cause::NoSms, 120, "a"));
    assert!(fail(&mut record, Cause::NoSms, 180, "b"), "with another password it is news");
    record.start_over();
    assert!(fail(&mut record, Cause::NoSms, 240, "b"), "an operator has asked");
}

#[test]
fn the_budget_is_per_hour_and_a_dead_portal_spends_none() {
    let mut record = PortalRecord::default();
    for n in 0..5 {
        record.spend_login(5, at(n)).unwrap();
    }
    assert_eq!(record.spend_login(5, at(10)), Err(at(3600)));
    record.refund_login(at(9));
    assert_eq!(record.logins.len(), 5, "only what was spent then");
    record.refund_login(at(4));
    record.spend_login(5, at(10)).unwrap();
    record.spend_login(5, at(3600)).unwrap();
}

#[test]
fn a_clock_that_was_set_back_locks_nothing_for_longer_than_an_hour() {
    let mut record = PortalRecord::default();
    for n in 0..5 {
        record.spend_login(5, at(1_000_000 + n)).unwrap();
    }
    assert_eq!(record.spend_login(5, at(0)), Err(at(3600)));
    record.spend_login(5, at(3600)).unwrap();
    record.fail(&failure(Cause::NoSms, 1_000_000), LIMITS, "", |pause| pause);
    assert!(record.may_log_in(at(3600), ""));
}

#[test]
fn the_history_is_bounded() {
    let mut record = PortalRecord::default();
    for n in 0..300 {
        record.note(at(n), EventKind::Paused, None, &"가".repeat(1000));
    }
    assert_eq!((record.events.len(), record.events[0].seq), (EVENTS, 201));
    let bytes = bincode::serialize(&record).unwrap();
    assert!(bytes.len() < crate::store::MAX_PAYLOAD, "{}", bytes.len());
}

#[test]
fn a_recovery_that_had_given_up_is_over_when_the_sessions_turn_out_to_live() {
    let lost = |cause| {
        let mut record = two_sessions();
        for id in ["a", "b"] {
            record.expire(id, "401", at(2));
        }
        record.fail(&failure(cause, 3), Limits { attempts: 1, ..LIMITS }, "", |pause| pause);
        assert_eq!(record.recovery.given_up, Some(cause));
        for id in ["b", "a"] {
            assert!(!record.whole(true));
            assert!(record.reinstate(id, "a second look", at(4)));
        }
        assert!(record.whole(true));
        record.end_recovery(at(4));
        record
    };
    let record = lost(Cause::PageChanged);
    assert_eq!((record.recovery.given_up, record.recovery.retry_at), (None, None));
    assert!(record.alert.is_some(), "it is for the alerts room to take back");
    assert_eq!(record.events.last().unwrap().kind, EventKind::Recovered);
    assert_eq!(lost(Cause::BadCredentials).recovery.given_up, Some(Cause::BadCredentials), "one attempt, ever");
}

#[test]
fn moments_that_lie_ahead_of_a_clock_that_was_set_back_are_taken_for_now() {
    let mut record = two_sessions();
    record.spend_login(5, at(1)).unwrap();
    assert!(!record.is_ahead(at(1)));
    let past = at(0) - Duration::from_secs(86_400 / 2);
    assert!(record.is_ahead(past));
    record.not_ahead(past);
    assert!(!record.is_ahead(past));
    assert_eq!((record.logins.clone(), record.active.unwrap().authenticated_at), (vec![past], past));
}

#[test]
fn the_bytes_on_disk_are_golden() {
    let mut record = two_sessions();
    record.expire("a", "401", at(2));
    record.last_failure = Some(failure(Cause::NoSms, 3));
    crate::store::golden::<PortalRecord>(
        &record,
        "0201016200fde8535c18a3010000fde8535c18a30100000001016101fd00505c18a3010000fd00505c18a30100000000000000000000000001010178fdb85b5c18a30100000401fd00505c18a3010000020101610002fde8535c18a3010000020101620003fdd0575c18a3010000040101610334303104fdd0575c18a3010000050101621e746865207374616e64627920746f6f6b206f7665722c2065706f63682032040000000000000000",
    );
    crate::store::golden::<PortalRecord>(&PortalRecord::default(), "0000000000000000000000000000000000000000000000");
}
