//! A session as its clients know it: what each request with its answer says about the one record behind them.

use std::collections::BTreeMap;

use super::checker::Subject;

/// The client's object.
pub(crate) type Data = BTreeMap<String, String>;

/// The record: the last version that was ever used, and the data unless it is removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Session {
    version: u64,
    data: Option<Data>,
}

/// What was asked.
#[derive(Clone, Debug)]
pub(crate) enum Request {
    Create(Data),
    Read,
    Replace { version: u64, data: Data },
    Merge(Data),
    Delete { version: Option<u64> },
}

/// What was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The record with its version.
    Is(u64, Data),
    Removed,
    /// 404.
    Missing,
    /// 412.
    Refused,
    /// The connection ended first.
    Unknown,
}

impl Session {
    fn at(version: u64, data: Data) -> Self {
        Self { version, data: Some(data) }
    }

    /// What the request does to the record, and what it should answer.
    fn does(&self, request: &Request) -> (Self, Answer) {
        let written = |data: Data| {
            let next = Self::at(self.version + 1, data);
            let answer = Answer::Is(next.version, next.data.clone().unwrap_or_default());
            (next, answer)
        };
        match (request, &self.data) {
            (Request::Create(data), None) => written(data.clone()),
            (Request::Replace { version, data }, Some(_)) if *version == self.version => written(data.clone()),
            (Request::Create(_) | Request::Replace { .. }, _) => (self.clone(), Answer::Refused),
            (_, None) => (self.clone(), Answer::Missing),
            (Request::Read, Some(data)) => (self.clone(), Answer::Is(self.version, data.clone())),
            (Request::Merge(patch), Some(data)) => {
                let mut data = data.clone();
                data.extend(patch.clone());
                written(data)
            }
            (Request::Delete { version }, Some(_)) => match version {
                Some(version) if *version != self.version => (self.clone(), Answer::Refused),
                _ => (Self { version: self.version, data: None }, Answer::Removed),
            },
        }
    }
}

impl Subject for Session {
    type Operation = (Request, Answer);

    fn after(&self, (request, answer): &Self::Operation) -> Vec<Self> {
        let (after, expected) = self.does(request);
        match answer {
            Answer::Unknown if after == *self => vec![after],
            Answer::Unknown => vec![self.clone(), after],
            answer if *answer == expected => vec![after],
            _ => vec![],
        }
    }
}
