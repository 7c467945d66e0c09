//! A portal with two phones: the first code wins, whichever brings it, and no phone is blamed for being second.

use std::sync::Mutex;
use std::time::Duration;

use nightporter::clock::within;
use nightporter::portals::forwarders::Message;
use nightporter::portals::inbox::{Busy, CODE_TIMEOUT, PhoneState, Reason, Receipt, Turn};
use nightporter::secret::Secret;

use crate::{Bench, buffered, code, expected, handed, refused, sms};

/// Two phones of one portal, the second one as a backup.
const BOTH: [&str; 2] = ["office", "backup"];

impl Bench {
    /// A login with two phones that has clicked "send code".
    async fn asked_both(&self, portal: &str) -> Turn {
        let mut turn = self.inbox.turn(&BOTH, portal, self.clock.now() + CODE_TIMEOUT).await.unwrap();
        turn.expect(expected()).await.unwrap();
        turn
    }

    async fn receive_at(&self, phone: &str, message: &Message) -> Receipt {
        self.inbox.receive(phone, message).await.unwrap()
    }
}

#[tokio::test]
async fn of_two_phones_the_first_code_wins_and_the_other_counts_no_more() {
    let bench = Bench::new();
    let message = sms("751539", "08:31:21.000");
    for (first, second) in [("office", "backup"), ("backup", "office")] {
        bench.clock.advance(Duration::from_secs(60));
        let message = Message { sent_at: Some(bench.clock.now()), ..message.clone() };
        let mut login = bench.asked_both("vroong").await;
        let got = bench.meanwhile(&mut login, async {
            assert_eq!(bench.receive_at(first, &message).await, handed());
        });
        assert_eq!(got.await.unwrap(), code("751539", 0, false));
        assert_eq!(bench.receive_at(second, &message).await, refused(Reason::Duplicate), "the same code");
        let other = Message { sent_at: message.sent_at, ..sms("222222", "08:31:22.000") };
        assert_eq!(bench.receive_at(second, &other).await, refused(Reason::NoLoginWaiting), "another code");
        login.accepted().await.unwrap();
        drop(login);
        assert_eq!(bench.inbox.phone(first).unwrap().state, PhoneState::Proven);
        assert_eq!(bench.inbox.phone(second).unwrap().proven_at.is_some(), second == "office", "from the round before");
    }
}

#[tokio::test]
async fn what_was_refused_while_a_code_was_tried_is_not_used_after_it() {
    let bench = Bench::new();
    let mut login = bench.asked_both("vroong").await;
    assert_eq!(bench.receive_at("office", &sms("111111", "08:31:21.000")).await, buffered());
    assert!(login.code(bench.clock.now()).await.is_ok());
    assert_eq!(bench.receive_at("backup", &sms("222222", "08:31:22.000")).await, refused(Reason::NoLoginWaiting));
    login.rejected().await.unwrap();
    bench.in_vain(&mut login).await;
}

#[tokio::test]
async fn both_phones_at_the_same_instant_give_one_use() {
    let bench = Bench::new();
    let mut login = bench.asked_both("vroong").await;
    let message = sms("751539", "08:31:21.000");
    let got = bench.meanwhile(&mut login, async {
        let all = (0..16).map(|number| bench.receive_at(BOTH[number % 2], &message));
        futures_util::future::join_all(all).await;
    });
    assert_eq!(got.await.unwrap().secret, Secret::new("751539"));
    // Whatever is left of it on the other phone is of no use to this login nor to the next.
    login.rejected().await.unwrap();
    bench.in_vain(&mut login).await;
    drop(login);
    let mut next = bench.asked_both("vroong").await;
    bench.in_vain(&mut next).await;
}

#[tokio::test]
async fn after_a_rejected_code_a_newer_one_from_the_other_phone_counts() {
    let bench = Bench::new();
    let mut login = bench.asked_both("vroong").await;
    assert_eq!(bench.receive_at("office", &sms("111111", "08:31:23.000")).await, buffered());
    assert_eq!(bench.receive_at("backup", &sms("222222", "08:31:21.000")).await, buffered());
    assert_eq!(login.code(bench.clock.now()).await.unwrap().secret, Secret::new("111111"), "the first choice");
    login.rejected().await.unwrap();
    let got = bench.meanwhile(&mut login, async {
        bench.until("08:31:30.000");
        assert_eq!(bench.receive_at("backup", &sms("111111", "08:31:29.000")).await, refused(Reason::Duplicate));
        assert_eq!(bench.receive_at("backup", &sms("333333", "08:31:29.000")).await, handed());
    });
    assert_eq!(got.await.unwrap().secret, Secret::new("333333"), "the older one is gone");
}

#[tokio::test]
async fn one_dead_phone_does_not_hold_up_a_login() {
    let bench = Bench::new();
    let mut login = bench.asked_both("vroong").await;
    let got = bench.meanwhile(&mut login, async {
        bench.until("08:32:00.000");
        assert_eq!(bench.receive_at("backup", &sms("751539", "08:31:59.000")).await, handed());
    });
    assert_eq!(got.await.unwrap().secret, Secret::new("751539"));
    assert_eq!(bench.state(), PhoneState::Unproven, "not silent: nobody waited in vain");
    bench.until("08:32:01.000");
    login.expect(expected()).await.unwrap();
    bench.in_vain(&mut login).await;
    assert_eq!(bench.state(), PhoneState::Silent);
    assert_eq!(bench.inbox.type_code("vroong", &Secret::new("123456")), Ok(()));
    assert_eq!(login.code(bench.clock.now()).await.unwrap().secret, Secret::new("123456"));
}

#[tokio::test]
async fn a_phone_whose_code_was_not_needed_is_not_silent() {
    let bench = Bench::new();
    for early in [true, false] {
        let mut login = bench.asked_both("vroong").await;
        bench.in_vain(&mut login).await;
        drop(login);
        bench.clock.advance(Duration::from_secs(60));
        let message = Message { sent_at: Some(bench.clock.now()), ..sms("751539", "08:31:21.000") };
        let mut login = bench.asked_both("vroong").await;
        bench.receive_at("office", &message).await;
        if early {
            bench.receive_at("backup", &message).await;
        }
        assert!(login.code(bench.clock.now()).await.is_ok());
        bench.receive_at("backup", &message).await;
        assert_eq!(bench.inbox.phone("backup").unwrap().state, PhoneState::Unproven, "early: {early}");
    }
}

#[tokio::test]
async fn a_phone_whose_code_comes_when_the_login_is_done_is_not_silent() {
    let bench = Bench::new();
    let silent = || bench.inbox.phone("backup").unwrap().state == PhoneState::Silent;
    let mut login = bench.asked_both("vroong").await;
    bench.in_vain(&mut login).await;
    login.expect(expected()).await.unwrap();
    let now = |code| Message { sent_at: Some(bench.clock.now()), ..sms(code, "08:31:21.000") };
    bench.receive_at("office", &now("751539")).await;
    assert!(login.code(bench.clock.now()).await.is_ok());
    drop(login);
    let advert = Message { text: Secret::new("[Web발신] 광고"), ..now("") };
    assert_eq!(bench.receive_at("backup", &advert).await, refused(Reason::NoLoginWaiting));
    assert!(silent(), "no code");
    assert_eq!(bench.receive_at("backup", &now("751539")).await, refused(Reason::NoLoginWaiting));
    assert!(!silent(), "slow, not dead");
    // A login that waited in vain is not answered by what comes after it.
    let mut login = bench.asked_both("vroong").await;
    bench.in_vain(&mut login).await;
    drop(login);
    bench.receive_at("backup", &now("222222")).await;
    assert!(silent());
}

#[tokio::test]
async fn a_silent_phone_that_is_taken_is_not_waited_for() {
    let bench = Bench::new();
    let mut other = bench.inbox.turn(&["backup"], "other", bench.clock.now()).await.unwrap();
    other.expect(expected()).await.unwrap();
    bench.in_vain(&mut other).await;
    let mut login = bench.asked_both("vroong").await;
    let message = Message { sent_at: None, ..sms("751539", "00:00:00.000") };
    assert_eq!(bench.receive(&message).await, buffered());
    assert_eq!(login.code(bench.clock.now()).await.unwrap().secret, Secret::new("751539"));
    drop((login, other));
    // Free, it is tried like any other.
    let login = bench.asked_both("vroong").await;
    let revived = Message { sent_at: None, ..sms("222222", "00:00:00.000") };
    assert_eq!(bench.receive_at("backup", &revived).await, buffered());
    drop(login);
    // Where all are silent and taken, there is nothing but to wait.
    let mut both = bench.asked_both("vroong").await;
    bench.in_vain(&mut both).await;
    let queued = bench.inbox.turn(&BOTH, "next", bench.clock.now() + CODE_TIMEOUT);
    let (next, ()) = tokio::join!(queued, async { drop(both) });
    assert!(next.is_ok());
}

#[tokio::test]
async fn logins_with_two_phones_do_not_wait_for_one_another_for_ever() {
    let bench = Bench::new();
    let done = Mutex::new(0);
    let login = |phones: [&'static str; 2]| {
        let (bench, done) = (&bench, &done);
        async move {
            for _ in 0..50 {
                let turn = bench.inbox.turn(&phones, "any", bench.clock.now() + CODE_TIMEOUT).await.unwrap();
                tokio::task::yield_now().await;
                drop(turn);
                *done.lock().unwrap() += 1;
            }
        }
    };
    let all = async { tokio::join!(login(BOTH), login(["backup", "office"]), login(["office", "office"])) };
    within(Duration::from_secs(60), all).await.expect("they wait for one another");
    assert_eq!(*done.lock().unwrap(), 150);
    // One login at a time, at each of them.
    let deadline = bench.clock.now() + Duration::from_secs(10);
    let backup = bench.inbox.turn(&["backup"], "other", deadline).await.unwrap();
    let (both, ()) = tokio::join!(bench.inbox.turn(&BOTH, "vroong", deadline), async {
        bench.clock.advance(Duration::from_secs(10));
    });
    assert!(matches!(both, Err(Busy::Deadline)), "{both:?}");
    let deadline = bench.clock.now();
    assert!(bench.inbox.turn(&["office"], "vroong", deadline).await.is_ok(), "it was given back");
    drop(backup);
}
