//! Words: what stands near a number and says what it is.
//!
//! A number belongs to the last label before it: "주문번호 123456" is an order, however often the message says code
//! elsewhere. A code's own label may also follow ("123456 is your code").

use std::ops::Range;

use super::Verdict;
use super::numbers::{self, Number, overlap};
use super::shown::shown;

/// Words that a code stands beside, in lowercase. The longest of several that overlap counts, in this list or another.
const ANCHORS: &[&str] = &[
    "인증",
    "인증번호",
    "본인확인",
    "확인번호",
    "확인코드",
    "보안코드",
    "보안번호",
    "승인코드",
    "일회용",
    "임시번호",
    "로그인번호",
    "로그인 번호",
    "간편번호",
    "코드",
    "code",
    "codes",
    "otp",
    "passcode",
    "one-time",
    "one time",
    "verification",
    "verify",
    "authentication",
    "pin",
    "tan",
    "bestätigungscode",
    "sicherheitscode",
    "código",
    "codigo",
    "codice",
    "mã",
    "код",
    "認証",
    "確認番号",
    "コード",
    "ワンタイムパスワード",
    "验证码",
    "校验码",
    "确认码",
    "动态码",
    "驗證碼",
];

/// Words that ask for a number, in lowercase: they explain one only when nothing better does.
const WEAK: &[&str] = &["입력", "비밀번호", "enter", "password"];

/// Words that another number stands beside, in lowercase; among them those that speak of a code without giving one.
const OTHERS: &[&str] = &[
    "번호",
    "주문",
    "송장",
    "운송장",
    "계좌",
    "예약",
    "접수",
    "우편",
    "사업자",
    "문의",
    "전화",
    "고객센터",
    "연락처",
    "수신거부",
    "무료거부",
    "거부",
    "잔액",
    "금액",
    "출금",
    "입금",
    "결제",
    "합계",
    "누적",
    "쿠폰",
    "상품권",
    "바코드",
    "사번",
    "학번",
    "차량",
    "호수",
    "참조",
    "끝자리",
    "뒷자리",
    "버전",
    "인증일",
    "인증시",
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
    "number",
    "order",
    "invoice",
    "tracking",
    "account no",
    "ticket",
    "reference",
    "ref",
    "txn",
    "transaction",
    "tel",
    "ending",
    "balance",
    "booking",
    "flight",
    "version",
    "番号",
    "单号",
];

/// Words for a code, in lowercase, that are of another kind with one of [`KINDS`] or [`OTHERS`] right before them, and glued
/// to any other word but an anchor: "매장코드".
const GENERIC: &[&str] = &["코드", "code", "codes"];

/// Words for any number, in lowercase, that become an anchor right behind one: "본인확인 번호", "OTP번호".
const NUMBERS: &[&str] = &["번호", "number", "番号"];

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
    "building",
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

/// Words right before the word for a code, in lowercase, that say that it counts no more.
const PAST: &[&str] = &["이전", "기존", "지난", "만료된", "old", "previous", "expired"];

/// What a weak word costs more than a good one: more than any distance.
pub(super) const DOUBT: usize = 1000;

/// How far a label may be from its number, in characters.
const REACH: usize = 60;

/// How far a label of something else claims a number, in characters.
const CLAIM: usize = 20;

/// What a label after the number costs more than one before it.
const BEHIND: usize = 10;

/// The labels of a message, in order, none within another.
pub(super) struct Labels<'a> {
    text: &'a str,
    labels: Vec<Label>,
}

struct Label {
    place: Range<usize>,
    kind: Kind,
    /// Whether a number that cannot be the code follows at once: "building code 7" says nothing of a number before it.
    given: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A word of the recipe that is not built in. Being near is enough: the operator knows the message.
    Own,
    Anchor,
    Weak,
    Other,
}

/// The word that makes a number a code.
pub(super) struct Near {
    /// How far it is, in characters, with what its kind and its side cost.
    pub(super) distance: usize,
    /// The word, in lowercase.
    pub(super) word: String,
    /// Whether the text presents the number as what the word speaks of.
    pub(super) shown: bool,
}

impl<'a> Labels<'a> {
    /// Finds the built-in labels and the recipe's `anchors` in a text with these numbers.
    pub(super) fn find(text: &'a str, anchors: &[String], numbers: &[Number]) -> Self {
        // Lowercase of the ASCII part only, so that places stay places.
        let lower = text.to_ascii_lowercase();
        let own: Vec<String> = anchors.iter().map(|word| word.trim().to_ascii_lowercase()).collect();
        let own = own.iter().map(String::as_str).filter(|word| !word.is_empty() && !ANCHORS.contains(word));
        let mut found: Vec<Label> = own.flat_map(|word| places(&lower, word, Kind::Own, &[PAST])).collect();
        for word in ANCHORS {
            let turned: &[&[&str]] = if GENERIC.contains(word) { &[PAST, KINDS, OTHERS] } else { &[PAST] };
            found.extend(places(&lower, word, Kind::Anchor, turned));
        }
        found.extend(WEAK.iter().flat_map(|word| places(&lower, word, Kind::Weak, &[])));
        found.extend(OTHERS.iter().flat_map(|word| places(&lower, word, Kind::Other, &[])));
        // The longer label wins where two overlap: "promo code" is no code. Of equals it is the recipe's.
        found.sort_by_key(|label| (label.place.start, std::cmp::Reverse(label.place.len())));
        let mut labels: Vec<Label> = Vec::new();
        for label in found {
            match labels.last_mut() {
                Some(last) if overlap(&last.place, &label.place) => {
                    if label.place.len() > last.place.len() {
                        *last = label;
                    }
                }
                _ => labels.push(label),
            }
        }
        for index in 0..labels.len() {
            let (earlier, rest) = labels.split_at_mut(index);
            let (last, label) = (earlier.last(), &mut rest[0]);
            let before = &text[last.map_or(0, |last| last.place.end)..label.place.start];
            let follows = last.is_some_and(|last| last.kind == Kind::Anchor && matches!(before, "" | " "));
            let word = &lower[label.place.clone()];
            if follows && NUMBERS.contains(&word) {
                label.kind = Kind::Anchor;
            } else if !follows && GENERIC.contains(&word) && before.ends_with(char::is_alphabetic) {
                label.kind = Kind::Other;
            }
        }
        for label in &mut labels {
            let rest = &text[label.place.end..];
            let next = text.len() - rest.trim_start_matches([' ', ':']).len();
            let short = |number: &Number| matches!(number.code, Err(Verdict::WrongLength { .. }));
            label.given = numbers.iter().any(|number| number.place.start == next && short(number));
        }
        Self { text, labels }
    }

    /// The label that makes the number at `place` a code.
    ///
    /// # Errors
    /// Why none does.
    pub(super) fn judge(&self, place: &Range<usize>) -> Result<Near, Verdict> {
        if let Some(word) = self.claimed(place) {
            return Err(Verdict::Claimed { word });
        }
        let kinds = [(Kind::Own, 0), (Kind::Anchor, 0), (Kind::Weak, DOUBT)];
        let near = kinds.into_iter().filter_map(|(kind, doubt)| {
            self.near(place, kind).map(|near| Near { distance: near.distance + doubt, ..near })
        });
        near.min_by_key(|near| (!near.shown, near.distance)).ok_or(Verdict::Unexplained)
    }

    /// The nearest label of this kind, with what one behind the number costs.
    fn near(&self, place: &Range<usize>, kind: Kind) -> Option<Near> {
        let of_kind = |label: &&Label| label.kind == kind;
        let (own, first, alone) = sentence(self.text, place);
        // Across the end of a sentence a label speaks only for the number that comes next, or for one that stands alone.
        let reaches =
            |label: &&Label| own.contains(&label.place.start) || alone || (first && label.place.end <= own.start);
        let labels = || self.labels.iter().filter(of_kind).filter(reaches);
        let before = labels().rev().find(|label| label.place.end <= place.start);
        let after = labels().find(|label| label.place.start >= place.end && !label.given);
        let before = before.map(|label| (self.gap(label.place.end..place.start).0, label));
        let after = after.map(|label| (self.gap(place.end..label.place.start).0 + BEHIND, label));
        let nearest = before.into_iter().chain(after).min_by_key(|(distance, _)| *distance);
        let (distance, label) = nearest.filter(|(distance, _)| *distance <= REACH)?;
        let shown = kind == Kind::Own || shown(self.text, place, &label.place, first);
        Some(Near { distance, word: self.word(label), shown })
    }

    /// The last label before the number, if it is near, on the same line, and one of something else.
    fn claimed(&self, place: &Range<usize>) -> Option<String> {
        let mut labels = self.labels.iter().rev().filter(|label| label.kind != Kind::Weak);
        let label = labels.find(|label| label.place.end <= place.start)?;
        let (distance, line_ends) = self.gap(label.place.end..place.start);
        (label.kind == Kind::Other && distance <= CLAIM && !line_ends).then(|| self.word(label))
    }

    fn word(&self, label: &Label) -> String {
        self.text[label.place.clone()].to_lowercase()
    }

    /// The characters between, and whether a line ends there.
    fn gap(&self, between: Range<usize>) -> (usize, bool) {
        let between = &self.text[between];
        (between.chars().count(), between.contains('\n'))
    }
}

/// Where `word` stands for itself in `text`; as a label of something else where one of `turned` is right before it.
fn places(text: &str, word: &str, kind: Kind, turned: &[&[&str]]) -> Vec<Label> {
    let places = text.match_indices(word).filter(|(at, _)| whole(text, *at, word));
    let kind = |at: usize| {
        let before = text[..at].strip_suffix(' ').unwrap_or(&text[..at]);
        let turned = turned.iter().copied().flatten().any(|word| before.ends_with(word));
        if turned { Kind::Other } else { kind }
    };
    places.map(|(at, _)| Label { place: at..at + word.len(), kind: kind(at), given: false }).collect()
}

/// The sentence that the number stands in, whether the number begins it, and whether it is all there is.
fn sentence(text: &str, place: &Range<usize>) -> (Range<usize>, bool, bool) {
    let ends = |(at, c): &(usize, char)| {
        *c == '\n'
            || (matches!(c, '.' | '!' | '?' | '。') && text[at + c.len_utf8()..].starts_with(char::is_whitespace))
    };
    let start = text[..place.start].char_indices().rev().find(ends).map_or(0, |(at, c)| at + c.len_utf8());
    let end = text[place.end..].char_indices().map(|(at, c)| (place.end + at, c)).find(ends);
    let end = end.map_or(text.len(), |(at, _)| at);
    let first = numbers::alone(&text[start..place.end], &(place.start - start..place.end - start));
    let alone = numbers::alone(&text[start..end], &(place.start - start..place.end - start));
    (start..end, first, alone)
}

/// A Latin word must stand for itself: "pin" is not in "shipping". A Korean one takes endings and prefixes.
fn whole(text: &str, at: usize, word: &str) -> bool {
    let letter = |c: char| c.is_ascii_alphabetic();
    let begins = !word.starts_with(letter) || !text[..at].ends_with(letter);
    let ends = !word.ends_with(letter) || !text[at + word.len()..].starts_with(letter);
    begins && ends
}
