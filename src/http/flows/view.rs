//! Flows as clients see them.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::clock::Time;
use crate::config::duration;
use crate::flows::{Definition, Flow, Message, Transition};

/// A flow.
#[derive(Serialize, ToSchema)]
#[schema(as = Flow)]
pub(super) struct FlowView<'a> {
    id: &'a str,
    flow: &'a str,
    /// Its state.
    status: &'a str,
    version: u64,
    /// The client's object, as it came.
    #[serde(serialize_with = "raw")]
    #[schema(value_type = Object)]
    data: &'a str,
    /// Each flag, and whether it is set. A flag that is set stays set.
    progress: BTreeMap<&'a str, bool>,
    /// Oldest first.
    messages: Vec<MessageView<'a>>,
    /// How many there are; more than are listed in answers to changes and in events.
    messages_total: u64,
    /// The transitions that may be taken now.
    transitions: Vec<&'a str>,
    /// The transition whose call is under way, or whose work is done in the background.
    running: Option<&'a str>,
    #[schema(value_type = String, format = DateTime)]
    created_at: Time,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Time,
    /// From this millisecond on it is gone.
    #[schema(value_type = String, format = DateTime)]
    expires_at: Time,
}

/// Something that a flow has said.
#[derive(Serialize, ToSchema)]
#[schema(as = FlowMessage)]
struct MessageView<'a> {
    #[schema(value_type = String, format = DateTime)]
    timestamp: Time,
    /// `info`, `success`, `warning` or `error`.
    r#type: &'static str,
    message: &'a str,
}

/// It was read as JSON before it was stored, and is guarded by the record's checksum since.
fn raw<S: Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
    let value: &RawValue = serde_json::from_str(text).unwrap_or(RawValue::NULL);
    value.serialize(serializer)
}

impl<'a> FlowView<'a> {
    /// With these of its messages.
    pub(super) fn new(flow: &'a Flow, messages: &'a [Message]) -> Self {
        let message = |message: &'a Message| MessageView {
            timestamp: message.at,
            r#type: message.kind.as_str(),
            message: &message.text,
        };
        Self {
            id: &flow.id,
            flow: &flow.flow,
            status: flow.status(),
            version: flow.version,
            data: flow.data(),
            progress: flow.progress().collect(),
            messages: messages.iter().map(message).collect(),
            messages_total: flow.messages(),
            transitions: flow.legal(),
            running: flow.running(),
            created_at: flow.created_at(),
            updated_at: flow.updated_at(),
            expires_at: flow.expires_at,
        }
    }
}

/// A flow in an operator's list.
#[derive(Serialize, ToSchema)]
pub(super) struct FlowSummary<'a> {
    id: &'a str,
    status: &'a str,
    version: u64,
    /// How long it has been in its state, in whole seconds.
    age_seconds: u64,
    running: Option<&'a str>,
    /// `failed` in the background, and may be retried; `overdue`; `storage_full`: its call waits for room on the
    /// disk; `unknown_state`: the definition has changed. Null when it
    /// is not stuck.
    stuck: Option<&'static str>,
    #[schema(value_type = String, format = DateTime)]
    created_at: Time,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Time,
    #[schema(value_type = String, format = DateTime)]
    expires_at: Time,
}

impl<'a> FlowSummary<'a> {
    pub(super) fn new(flow: &'a Flow, now: Time) -> Self {
        Self {
            id: &flow.id,
            status: flow.status(),
            version: flow.version,
            age_seconds: now.since(flow.since()).as_secs(),
            running: flow.running(),
            stuck: flow.stuck(now).map(crate::flows::Stuck::as_str),
            created_at: flow.created_at(),
            updated_at: flow.updated_at(),
            expires_at: flow.expires_at,
        }
    }
}

#[derive(Serialize, ToSchema)]
pub(super) struct FlowList<'a> {
    pub(super) flows: Vec<FlowSummary<'a>>,
    /// The cursor of the next page; null at the end. A page may be short, or empty, when few of very many are wanted.
    pub(super) next: Option<String>,
}

/// A kind of flow.
#[derive(Serialize, ToSchema)]
#[schema(as = FlowKind)]
pub(super) struct KindView<'a> {
    flow: &'a str,
    initial: &'a str,
    /// States that nothing leads out of.
    r#final: &'a [String],
    /// The life of one, as in `"1h"`.
    ttl: String,
    /// Its flags.
    progress: &'a [String],
    transitions: Vec<TransitionView<'a>>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = FlowTransition)]
struct TransitionView<'a> {
    name: &'a str,
    from: &'a [String],
    to: &'a str,
}

impl<'a> KindView<'a> {
    pub(super) fn new(name: &'a str, definition: &'a Definition) -> Self {
        let transition = |one: &'a Transition| TransitionView { name: &one.name, from: &one.from, to: &one.to };
        Self {
            flow: name,
            initial: &definition.initial,
            r#final: &definition.finals,
            ttl: duration::show(definition.ttl),
            progress: &definition.progress,
            transitions: definition.transitions.iter().map(transition).collect(),
        }
    }
}

#[derive(Serialize, ToSchema)]
pub(super) struct KindList<'a> {
    pub(super) flows: Vec<KindView<'a>>,
}
