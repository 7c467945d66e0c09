//! Why a flow could not be read or changed, and why flows cannot be kept.

use std::sync::Arc;

use super::definition::DefinitionError;
use super::provider::Failure;
use super::{MAX_SAID, MAX_TEXT, transition};
use crate::store::StoreError;

/// Why a flow could not be read or changed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum FlowError {
    /// No flow of that name is configured.
    #[error("no flow is called \"{0}\"")]
    UnknownFlow(String),
    /// There is none of that id, or it has expired.
    #[error("no flow of that id is here")]
    Absent,
    /// The definition has no transition of that name.
    #[error("this flow has no transition \"{0}\"")]
    UnknownTransition(String),
    /// The transition does not lead out of the present state.
    #[error("{transition} does not lead out of the state {status}")]
    Illegal {
        /// The transition.
        transition: String,
        /// The present state.
        status: String,
        /// Those that do.
        legal: Vec<String>,
    },
    /// Another transition's call is under way.
    #[error("{transition} is under way")]
    Running {
        /// That one.
        transition: String,
    },
    /// The provider failed; the state is as it was.
    #[error("{transition} failed: {failure}")]
    Provider {
        /// The transition.
        transition: String,
        /// How.
        failure: Failure,
    },
    /// The transition needs this part of the data.
    #[error("{0} is needed for this transition and not there")]
    Lacks(String),
    /// This part of the data does not fit where the provider's call needs it.
    #[error("{0} does not fit into the provider's address or a header")]
    Misfit(String),
    /// It is not at a version that the caller allows.
    #[error("the flow has changed since the version that this request names")]
    Changed,
    /// The data is no JSON object.
    #[error("data must be a JSON object")]
    Data,
    /// The flow would hold more data than it may.
    #[error("the flow would hold {length} bytes of data, it may hold {}", transition::MAX_DATA)]
    TooLarge {
        /// That many.
        length: usize,
    },
    /// A message's text is empty or too long.
    #[error("a message has 1 to {MAX_TEXT} bytes")]
    Text,
    /// As many flows of the kind are alive as may be.
    #[error("{0} flows of this kind are alive, as many as may be")]
    Crowded(u64),
    /// The flow has as many messages as it may.
    #[error("the flow's messages take {MAX_SAID} bytes, as many as they may")]
    Full,
    /// Nothing of it has failed in the background.
    #[error("nothing of this flow has failed in the background")]
    NotFailed,
    /// The process is about to stop, and the outcome is unknown to this request.
    #[error("the process is about to stop")]
    Stopping,
    /// The store failed.
    #[error("{0}")]
    Store(Arc<StoreError>),
}

impl From<StoreError> for FlowError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::TooLarge { length, .. } => Self::TooLarge { length },
            other => Self::Store(Arc::new(other)),
        }
    }
}

/// Why flows cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum FlowsError {
    /// A definition cannot be used.
    #[error(transparent)]
    Definition(#[from] DefinitionError),
    /// There is no client for providers.
    #[error("no client for providers: {0}")]
    Provider(String),
}
