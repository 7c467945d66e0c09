//! Words: what stands near a number and says what it is.
//!
//! A number belongs to the last label before it: "주문번호 123456" is an order, however often the message says code
//! elsewhere. A code's own label may also follow ("123456 is your code").

use std::ops::Range;

use super::numbers;

/// Words that a code stands beside, in lowercase.
const ANCHORS: &[&str] = &[
    "인증",
    "본인확인",
    "확인번호",
    "확인 번호",
    "확인코드",
    "확인 코드",
    "보안코드",
    "보안 코드",
    "보안번호",
    "보안 번호",
    "승인코드",
    "일회용",
    "임시번호",
    "로그인 번호",
    "로그인번호",
    "간편번호",
    "코드",
    "code",
    "otp",
    "passcode",
    "one-time",
    "one time",
    "verification",
    "verify",
    "authentication",
    "pin",
];

/// Words that ask for a number, in lowercase: they explain one only when nothing better does.
const WEAK: &[&str] = &["입력", "enter"];

/// Words that another number stands beside, in lowercase; among them those that speak of a code without giving one.
const OTHERS: &[&str] = &[
    "주문",
    "송장",
    "운송장",
    "계좌",
    "고객번호",
    "고객님번호",
    "회원번호",
    "예약",
    "접수",
    "카드",
    "우편",
    "사업자",
    "등록번호",
    "문의",
    "전화",
    "고객센터",
    "대표번호",
    "연락처",
    "수신거부",
    "무료거부",
    "거부",
    "승인번호",
    "잔액",
    "출금",
    "입금",
    "결제",
    "합계",
    "누적",
    "쿠폰",
    "상품권",
    "바코드",
    "우편번호",
    "관리번호",
    "사번",
    "학번",
    "차량",
    "호수",
    "문서번호",
    "신청번호",
    "참조",
    "끝자리",
    "뒷자리",
    "끝번호",
    "버전",
    "인증완료",
    "인증 완료",
    "인증이 완료",
    "인증되었",
    "인증 실패",
    "인증에 실패",
    "인증기관",
    "인증서",
    "인증업체",
    "인증센터",
    "order",
    "invoice",
    "tracking",
    "account number",
    "account no",
    "ticket",
    "reference",
    "ref",
    "txn",
    "transaction",
    "tel",
    "ending",
    "card",
    "balance",
    "booking",
    "flight",
    "version",
];

/// Words for a code, in lowercase, that is of another kind with one of [`KINDS`] or [`OTHERS`] right before it.
const GENERIC: &[&str] = &["코드", "code"];

/// Kinds of codes that are no one-time codes, in lowercase.
const KINDS: &[&str] = &[
    "qr",
    "할인",
    "지점",
    "추천",
    "추천인",
    "초대",
    "오류",
    "에러",
    "상품",
    "제품",
    "국가",
    "프로모션",
    "zip",
    "postal",
    "promo",
    "coupon",
    "discount",
    "country",
    "area",
    "error",
    "referral",
    "invite",
    "gift",
    "voucher",
    "reservation",
];

/// What a weak word costs more than a good one: more than any distance.
const DOUBT: usize = 1000;

/// How far a label may be from its number, in characters.
const REACH: usize = 60;

/// How far a label of something else claims a number, in characters.
const CLAIM: usize = 20;

/// What a label after the number costs more than one before it.
const BEHIND: usize = 10;

/// The labels of a message, in order, none within another.
pub(super) struct Labels(Vec<Label>);

struct Label {
    place: Range<usize>,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Anchor,
    Weak,
    Other,
}

impl Labels {
    /// Finds the built-in labels and the recipe's `anchors`.
    pub(super) fn find(text: &str, anchors: &[String]) -> Self {
        // Lowercase of the ASCII part only, so that places stay places.
        let text = text.to_ascii_lowercase();
        let own: Vec<String> = anchors.iter().map(|word| word.trim().to_ascii_lowercase()).collect();
        let mut found = Vec::new();
        let words = own.iter().map(|word| (word.as_str(), Kind::Anchor));
        let words = words.chain(ANCHORS.iter().map(|word| (*word, Kind::Anchor)));
        let words = words.chain(WEAK.iter().map(|word| (*word, Kind::Weak)));
        let words = words.chain(OTHERS.iter().map(|word| (*word, Kind::Other)));
        for (word, kind) in words.filter(|(word, _)| !word.is_empty()) {
            let places = text.match_indices(word).filter(|(at, _)| whole(&text, *at, word));
            found.extend(places.map(|(at, _)| {
                let other =
                    kind == Kind::Anchor && !own.contains(&word.to_owned()) && of_another_kind(&text[..at], word);
                Label { place: at..at + word.len(), kind: if other { Kind::Other } else { kind } }
            }));
        }
        // The longer label wins where two overlap: "promo code" is no code.
        found.sort_by_key(|label| std::cmp::Reverse(label.place.len()));
        let mut kept: Vec<Label> = Vec::new();
        for label in found {
            if !kept.iter().any(|other| overlap(&label.place, &other.place)) {
                kept.push(label);
            }
        }
        kept.sort_by_key(|label| label.place.start);
        Self(kept)
    }

    /// How far the number at `place` is from the label that makes it a code; None when none does.
    pub(super) fn distance(&self, text: &str, place: &Range<usize>) -> Option<usize> {
        self.judge(text, place, Kind::Anchor)
            .or_else(|| self.judge(text, place, Kind::Weak).map(|distance| distance + DOUBT))
            .filter(|_| !self.claimed(text, place))
    }

    /// The distance to the nearest label of this kind, with what a label behind the number costs.
    fn judge(&self, text: &str, place: &Range<usize>, kind: Kind) -> Option<usize> {
        let of_kind = |label: &&Label| label.kind == kind;
        let (own, first, alone) = sentence(text, place);
        // Across the end of a sentence a label speaks only for the number that comes next, or for one that stands alone.
        let reaches =
            |label: &&Label| own.contains(&label.place.start) || alone || (first && label.place.end <= own.start);
        let before = self.0.iter().rev().filter(of_kind).find(|label| label.place.end <= place.start).filter(reaches);
        let after = self.0.iter().filter(of_kind).find(|label| label.place.start >= place.end).filter(reaches);
        let before = before.map(|label| gap(text, label.place.end..place.start).0);
        let after = after.map(|label| gap(text, place.end..label.place.start).0 + BEHIND);
        before.into_iter().chain(after).filter(|distance| *distance <= REACH).min()
    }

    /// Whether the last label before the number, on the same line and near, is one of something else.
    fn claimed(&self, text: &str, place: &Range<usize>) -> bool {
        let mut labels = self.0.iter().rev().filter(|label| label.kind != Kind::Weak);
        labels.find(|label| label.place.end <= place.start).is_some_and(|label| {
            let (distance, line_ends) = gap(text, label.place.end..place.start);
            label.kind == Kind::Other && distance <= CLAIM && !line_ends
        })
    }
}

/// The sentence that the number stands in, whether the number begins it, and whether it is all there is.
fn sentence(text: &str, place: &Range<usize>) -> (Range<usize>, bool, bool) {
    let ends = |(at, c): &(usize, char)| {
        *c == '\n' || (matches!(c, '.' | '!' | '?') && text[at + 1..].starts_with(char::is_whitespace))
    };
    let start = text[..place.start].char_indices().rev().find(ends).map_or(0, |(at, _)| at + 1);
    let end = text[place.end..].char_indices().map(|(at, c)| (place.end + at, c)).find(ends);
    let end = end.map_or(text.len(), |(at, _)| at);
    let first = numbers::alone(&text[start..place.end], &(place.start - start..place.end - start));
    let alone = numbers::alone(&text[start..end], &(place.start - start..place.end - start));
    (start..end, first, alone)
}

/// Whether a word for a code has a word right before it that makes it one of another kind.
fn of_another_kind(before: &str, word: &str) -> bool {
    let before = before.strip_suffix(' ').unwrap_or(before);
    GENERIC.contains(&word) && KINDS.iter().chain(OTHERS).any(|kind| before.ends_with(kind))
}

/// The characters between, and whether a line ends there.
fn gap(text: &str, between: Range<usize>) -> (usize, bool) {
    let between = &text[between];
    (between.chars().count(), between.contains('\n'))
}

/// A Latin word must stand for itself: "pin" is not in "shipping". A Korean one takes endings and prefixes.
fn whole(text: &str, at: usize, word: &str) -> bool {
    let letter = |c: char| c.is_ascii_alphabetic();
    let begins = !word.starts_with(letter) || !text[..at].ends_with(letter);
    let ends = !word.ends_with(letter) || !text[at + word.len()..].starts_with(letter);
    begins && ends
}

fn overlap(a: &Range<usize>, b: &Range<usize>) -> bool {
    a.start < b.end && b.start < a.end
}
