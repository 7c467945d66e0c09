//! The portal's orders: what a batch job comes to fetch. Knows nothing of sessions or HTTP.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Time;

/// Orders, and idempotency keys, kept at most; the oldest orders make room, new keys are refused beyond it.
const KEPT: usize = 10_000;
/// Orders on the shelf at the start.
const FIRST: u64 = 240;

const PEOPLE: [&str; 12] = [
    "김민서",
    "이도윤",
    "박서연",
    "최지호",
    "정하은",
    "강시우",
    "조예린",
    "윤준서",
    "장수아",
    "임태민",
    "한지우",
    "오세훈",
];
const GOODS: [&str; 8] = [
    "유기농 사과 5kg",
    "무선 청소기",
    "겨울 이불 세트",
    "한우 선물세트",
    "아동 도서 10권",
    "원두커피 1kg",
    "등산화 270mm",
    "제주 감귤 10kg",
];
const PLACES: [&str; 8] = [
    "서울특별시 마포구 월드컵북로 21",
    "부산광역시 해운대구 센텀중앙로 97",
    "대구광역시 수성구 달구벌대로 2450",
    "인천광역시 연수구 송도과학로 32",
    "광주광역시 서구 상무중앙로 110",
    "대전광역시 유성구 대학로 99",
    "경기도 성남시 분당구 판교역로 166",
    "제주특별자치도 제주시 첨단로 242",
];

/// One parcel to be brought to somebody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Order {
    /// The order number, such as `HB-100240`.
    pub id: String,
    /// Who gets it.
    pub recipient: String,
    /// What it is.
    pub item: String,
    /// Where it goes.
    pub address: String,
    /// `접수대기`, `배송중` or `배송완료`.
    pub status: String,
    /// When it was ordered.
    pub ordered_at: Time,
}

/// An order as a caller asks for it.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Wish {
    recipient: String,
    item: String,
    #[serde(default)]
    address: String,
}

/// The orders and what came in under which idempotency key.
pub(super) struct Orders {
    shelf: VecDeque<Order>,
    next: u64,
    keys: BTreeMap<String, (Order, u32)>,
}

/// The portal remembers no more idempotency keys.
#[derive(Debug)]
pub(super) struct Full;

impl Orders {
    /// A shelf as it looks on any working day at `now`.
    pub(super) fn new(now: Time) -> Self {
        let first = (1..=FIRST).map(|number| example(number, now));
        Self { shelf: first.collect(), next: FIRST + 1, keys: BTreeMap::new() }
    }

    /// The newest `limit` orders, newest first.
    pub(super) fn latest(&self, limit: usize) -> Vec<Order> {
        self.shelf.iter().rev().take(limit).cloned().collect()
    }

    pub(super) fn find(&self, id: &str) -> Option<Order> {
        self.shelf.iter().find(|order| order.id == id).cloned()
    }

    pub(super) fn count(&self, status: Option<&str>) -> usize {
        self.shelf.iter().filter(|order| status.is_none_or(|status| order.status == status)).count()
    }

    /// Makes an order, or finds the one made earlier under the same key; true when it is new.
    ///
    /// # Errors
    /// [`Full`] when the key is new and there is no room for it.
    pub(super) fn place(&mut self, wish: Wish, key: Option<String>, now: Time) -> Result<(Order, bool), Full> {
        if let Some((order, times)) = key.as_ref().and_then(|key| self.keys.get_mut(key)) {
            *times += 1;
            return Ok((order.clone(), false));
        }
        if key.is_some() && self.keys.len() >= KEPT {
            return Err(Full);
        }
        let Wish { recipient, item, address } = wish;
        let id = format!("HB-{}", 100_000 + self.next);
        self.next += 1;
        let order = Order { id, recipient, item, address, status: "접수대기".into(), ordered_at: now };
        self.shelf.push_back(order.clone());
        if self.shelf.len() > KEPT {
            self.shelf.pop_front();
        }
        if let Some(key) = key {
            self.keys.insert(key, (order.clone(), 1));
        }
        Ok((order, true))
    }

    /// How often an order was sent in under this key, repeats included.
    pub(super) fn submissions(&self, key: &str) -> u32 {
        self.keys.get(key).map_or(0, |(_, times)| *times)
    }
}

fn example(number: u64, now: Time) -> Order {
    let pick = |list: &[&str], step: u64| {
        let index = usize::try_from(number * step).unwrap_or(0) % list.len();
        list[index].to_owned()
    };
    let age = FIRST - number;
    let status = match age {
        0..40 if number.is_multiple_of(2) => "접수대기",
        0..120 => "배송중",
        _ => "배송완료",
    };
    Order {
        id: format!("HB-{}", 100_000 + number),
        recipient: pick(&PEOPLE, 7),
        item: pick(&GOODS, 5),
        address: pick(&PLACES, 3),
        status: status.into(),
        ordered_at: now - Duration::from_secs(age * 240 + 60),
    }
}
