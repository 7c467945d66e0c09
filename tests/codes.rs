//! The labelled corpus of text messages: never a wrong code, and hardly one missed.

use nightporter::portals::code::{Found, Rules, find};
use nightporter::secret::Secret;

/// What a message holds.
enum Holds {
    Code(&'static str),
    None,
    Several,
}
use Holds::{Code, None as No, Several};

fn found(code: &str) -> Found {
    Found::Code(Secret::new(code))
}

fn rules(length: usize) -> Rules {
    Rules { length, anchors: Vec::new(), pattern: None, host: Some("login.acme.example".to_owned()) }
}

/// Six digits are wanted.
const SIX: &[(&str, Holds)] = &[
    // The shapes that were measured.
    ("[Web발신] 인증번호 [572913] 를 입력해 주세요.", Code("572913")),
    ("[한국모바일인증(주)]본인확인 인증번호[123456]입니다. \"타인노출금지\"", Code("123456")),
    ("인증번호 751539", Code("751539")),
    ("G-234145 is your verification code", Code("234145")),
    // Korean.
    ("[Web발신]\n[부릉] 인증번호는 [402817] 입니다.", Code("402817")),
    ("[Web발신]\n(광고아님) 로그인 인증번호: 118204\n3분 이내에 입력하세요.", Code("118204")),
    ("[네이버] 인증번호 [530184] 타인에게 절대 알려주지 마세요.", Code("530184")),
    ("[카카오] 본인확인 인증번호 903311를 화면에 입력해주세요", Code("903311")),
    ("[쿠팡] 보안코드 664210 (유효시간 3분)", Code("664210")),
    ("<#> [토스] 인증번호 204918 를 입력하세요\nFA+9qCX9VSu", Code("204918")),
    ("<#> 인증번호: 204918\nAB123456/Cd", Code("204918")),
    ("인증번호１２３４５６입니다", Code("123456")),
    ("[Ｗｅｂ발신] 인증번호［９０８１７２］", Code("908172")),
    ("인증번호 881234 를 입력하세요. 문의 1588-1234", Code("881234")),
    ("인증번호 881234 1588-1234", Code("881234")),
    ("문의: 02-123-4567\n인증번호: 339201", Code("339201")),
    ("고객센터 15881234 / 인증번호 339201", Code("339201")),
    ("2025.11.20 17:31 인증번호[660012]", Code("660012")),
    ("[KB국민은행] 2025년 11월 20일 이체 1,250,000원 인증번호 112358", Code("112358")),
    ("[신한카드] 1234-****-****-5678 결제 인증번호(447700)", Code("447700")),
    ("주문번호 998877 인증번호 123987", Code("123987")),
    ("인증번호 123987, 주문번호 998877", Code("123987")),
    ("인증번호 123987\n인증번호 123987", Code("123987")),
    ("인증번호를 아래와 같이 보내드립니다.\n\n700455\n", Code("700455")),
    ("488120 인증번호를 입력해 주세요", Code("488120")),
    ("[ACME] 488120을 입력해 주세요", Code("488120")),
    ("인증번호\u{200B}:\u{a0}555012\r\n", Code("555012")),
    ("일회용 비밀번호(OTP) 620019 입니다. 10분간 유효", Code("620019")),
    ("[Web발신]\n572913", Code("572913")),
    ("[하이패스] 인증번호: **204455** 입니다", Code("204455")),
    ("인증코드: 019283 (https://acme.example/v/445566)", Code("019283")),
    // English.
    ("Your Acme verification code is 842019.", Code("842019")),
    ("842019 is your Acme code. Don't share it.", Code("842019")),
    ("Your code is 123450.Do not share it with anyone", Code("123450")),
    ("Use 733201 to verify your phone number +82 10-1234-5678", Code("733201")),
    ("To sign in to your account, enter 733201", Code("733201")),
    ("Acme: OTP 300127 for a payment of $450.00 on card ending 443322", Code("300127")),
    ("Your login code: 555666\n\nThis code expires in 600 seconds", Code("555666")),
    ("Order 887766 is waiting; your PIN is 110022", Code("110022")),
    ("인증번호\n[204817] 입니다", Code("204817")),
    ("204817\n위 인증번호를 입력하세요", Code("204817")),
    ("[ACME] 인증번호를 보내드립니다. 204817", Code("204817")),
    ("결제 인증번호 204817 입니다. 쿠팡 12,000원", Code("204817")),
    ("공동인증서 발급을 위한 인증번호는 204817 입니다.", Code("204817")),
    ("204817 를 입력하시면 인증이 완료됩니다.", Code("204817")),
    // Domain-bound.
    ("코드는 111222 또는 333444 입니다\n\n@login.acme.example #747723", Code("747723")),
    ("747723 is your code\n@acme.example #747723", Code("747723")),
    ("747723 is your code\n@other.example #747723", No),
    // Numbers that are something else.
    ("택배가 도착했습니다. 송장번호 123456", No),
    ("[우체국] 등기 1234-567890 배달 완료", No),
    ("잔액 123456원", No),
    ("계좌 110-123-456789 입금 250,000원", No),
    ("11/20 17:31 승인 123,456원 누적 1,234,567원", No),
    ("인증번호가 발송되었습니다. 문의 123-456-7890", No),
    ("인증번호 안내: 문의전화 010-1234-5678", No),
    ("본인인증 후 https://acme.example/123456 로 접속", No),
    ("인증 메일: a123456@acme.example", No),
    ("인증기한 20251120까지", No),
    ("인증번호 12345678", No),
    ("인증번호 12345", No),
    ("코드 AB123456CD", No),
    ("승인번호 123456 결제 완료", No),
    ("Your promo code 123456 is waiting", No),
    ("Use code SAVE20 for your order 123456", No),
    ("카드 ***123456 인증 완료", No),
    ("본인인증이 완료되었습니다. 회원 123456님 환영합니다", No),
    ("인증 완료 123456", No),
    ("예약 코드 998877 로 확인하세요", No),
    ("추천인코드 998877 입력시 할인", No),
    ("Use referral code 998877", No),
    ("Do not share your OTP with anyone. Terminal 998877 is closed", No),
    ("Never give away your code.\nTerminal 998877 is closed", No),
    ("인증번호는 절대 알려주지 마세요. 담당 998877 드림", No),
    ("단말 998877 은 꺼졌습니다. 인증번호는 문자로 보냅니다", No),
    ("회의는 101호에서 합니다", No),
    ("", No),
    ("[Web발신] 안녕하세요", No),
    // Several that could be it.
    ("인증번호 111222 또는 333444", Several),
    ("이전 인증번호 111222, 새 인증번호 333444", Several),
    ("Your code is 111222 (or 333444)", Several),
];

/// Four digits are wanted: the length of years, card tails and half of the phone numbers.
const FOUR: &[(&str, Holds)] = &[
    ("인증번호 [4821]", Code("4821")),
    ("인증번호는 4821 입니다. 문의 1588-4567", Code("4821")),
    ("인증번호는 4821 입니다. 문의 1588 4567", Code("4821")),
    ("2025-11-20 인증번호 4821", Code("4821")),
    ("2025년 11월 인증번호 4821", Code("4821")),
    ("신한카드 5678 인증번호 4821", Code("4821")),
    ("카드 1234 5678 9012 3456 인증번호 4821", Code("4821")),
    ("Your code is 4821. Call 1-800-555-0199", Code("4821")),
    ("문의 010-1234-4567 인증", No),
    ("© 2025년 인증센터", No),
    ("인증 결제 5000원", No),
    ("인증 시각 17:31, 1234초", No),
    ("card ending 4567", No),
    ("인증 01012344567", No),
];

#[test]
fn no_code_is_ever_wrong_and_hardly_one_is_missed() {
    let (mut wrong, mut missed, mut right, mut coded) = (Vec::new(), Vec::new(), 0, 0);
    let corpus = SIX.iter().map(|message| (6, message)).chain(FOUR.iter().map(|message| (4, message)));
    for (length, (text, holds)) in corpus {
        let answer = find(text, &rules(length));
        coded += usize::from(matches!(holds, Code(_)));
        match (holds, &answer) {
            (Code(code), Found::Code(taken)) if taken.expose() == *code => right += 1,
            (Code(_), Found::Nothing | Found::Ambiguous) => missed.push(*text),
            (No, Found::Nothing) | (Several, Found::Ambiguous) => {}
            (_, Found::Code(taken)) => wrong.push((*text, taken.expose().to_owned())),
            _ => wrong.push((*text, format!("{answer:?}"))),
        }
    }
    println!("codes {coded}, found {right}, missed {missed:?}, wrong {wrong:?}");
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(missed.is_empty(), "{missed:#?}");
}

#[test]
fn a_code_of_the_wanted_length_survives_any_neighbourhood_of_the_same_message() {
    // Whatever trails the message, the answer is the code or a refusal, never another number.
    for tail in
        ["", "\n", " 1588-1234", " (3분)", "\nFA+9qCX9VSu", " 주문 998877", " 998877", ", 2025.11.20", " #998877"]
    {
        let text = format!("인증번호 751539{tail}");
        let answer = find(&text, &rules(6));
        assert!(matches!(&answer, Found::Ambiguous | Found::Nothing) || answer == found("751539"), "{text}");
    }
}

#[test]
fn the_recipes_anchors_count_before_the_built_in_words() {
    let mut rules = rules(6);
    assert_eq!(find("승인번호 123456", &rules), Found::Nothing);
    rules.anchors = vec!["승인번호".to_owned()];
    assert_eq!(find("승인번호 123456", &rules), found("123456"));
}

#[test]
fn a_pattern_overrides_and_two_matches_refuse() {
    let pattern = |text: &str| Rules { pattern: Some(regex::Regex::new(text).unwrap()), ..rules(6) };
    let grouped = pattern(r"key ([A-Z]{4})");
    assert_eq!(find("code 123456, key ABCD", &grouped), found("ABCD"));
    assert_eq!(find("key ABCD, again key ABCD", &grouped), found("ABCD"));
    assert_eq!(find("key ABCD, key EFGH", &grouped), Found::Ambiguous);
    assert_eq!(find("인증번호 123456", &grouped), Found::Nothing);
    assert_eq!(find("x 12-34", &pattern(r"\d\d-\d\d")), found("12-34"));
    assert_eq!(find("x", &pattern("")), Found::Nothing);
}

#[test]
fn a_text_without_end_is_not_looked_at() {
    assert_eq!(find(&format!("인증번호 751539{}", " ".repeat(5000)), &rules(6)), Found::Nothing);
}

proptest::proptest! {
    /// Whatever a stranger writes, the search ends, and what it gives has the length that was asked for.
    #[test]
    fn any_text_is_survived(text in r"(인증번호|code|[0-9０-９]{1,8}|[ .,:\-/*\n\[\]@#+]|\PC){0,40}", length in 0_usize..10) {
        if let Found::Code(code) = find(&text, &Rules { host: None, ..rules(length) }) {
            proptest::prop_assert!(code.expose().len() == length && code.expose().bytes().all(|b| b.is_ascii_digit()));
        }
    }
}
