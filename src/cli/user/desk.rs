//! Who does it: the running server, or we ourselves on the store that nobody serves.

use std::path::{Path, PathBuf};

use anyhow::anyhow;
use hyper::Method;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use uuid::Uuid;

use super::Deed;
use crate::accounts::AccountError;
use crate::accounts::people::{Operator, People, PeopleError};
use crate::app;
use crate::cli::control;
use crate::cli::exit::{Exit, Failure};
use crate::cli::{Settings, store};
use crate::clock::Clock;
use crate::http::users::{ExportView, PersonList, PersonView, SightView, Unbanned};
use crate::ids::Random;
use crate::lifecycle::Lifecycle;

pub(super) enum Desk {
    /// The server of the store in this directory.
    Server(PathBuf),
    Ourselves(People, Lifecycle),
}

impl Desk {
    pub(super) async fn open(settings: &Settings) -> Result<Self, Failure> {
        let config = settings.load()?;
        if control::reach(&config.store.path).await?.is_some() {
            return Ok(Self::Server(config.store.path.clone()));
        }
        let (clock, life) = (Clock::system(), Lifecycle::new());
        let random = Random::system().map_err(|error| Failure::told(Exit::Failed, error))?;
        let opened = store::open(&config.store, &clock, &life)?;
        Ok(Self::Ourselves(app::people(opened, &config, clock, random).await?, life))
    }

    /// Gives the store back, and hands on what was had of it.
    pub(super) async fn closed<T>(self, had: Result<T, Failure>) -> Result<T, Failure> {
        if let Self::Ourselves(people, life) = self {
            store::close(people, &life).await;
        }
        had
    }

    pub(super) async fn list(&self, cursor: Option<&str>, limit: usize) -> Result<PersonList, Failure> {
        match self {
            Self::Server(directory) => {
                let mut query = url::form_urlencoded::Serializer::new(String::new());
                query.append_pair("limit", &limit.to_string());
                query.extend_pairs(cursor.map(|cursor| ("cursor", cursor)));
                ask(directory, Method::GET, &format!("?{}", query.finish()), None).await
            }
            Self::Ourselves(people, _) => {
                let unfit = |_| Failure::told(Exit::Failed, "a cursor is what a list before has ended with");
                let after = cursor.map(|cursor| cursor.parse::<Uuid>().map_err(unfit)).transpose()?;
                let (page, next) = people.list(after, limit).await.map_err(refused)?;
                Ok(PersonList::new(page, next))
            }
        }
    }

    pub(super) async fn show(&self, user: &str) -> Result<SightView, Failure> {
        let id = self.id_of(user).await?;
        match self {
            Self::Server(directory) => ask(directory, Method::GET, &format!("/{id}"), None).await,
            Self::Ourselves(people, _) => Ok(people.show(id).await.map_err(refused)?.into()),
        }
    }

    pub(super) async fn export(&self, user: &str) -> Result<ExportView, Failure> {
        let id = self.id_of(user).await?;
        match self {
            Self::Server(directory) => ask(directory, Method::GET, &format!("/{id}/export"), None).await,
            Self::Ourselves(people, _) => Ok(people.export(id, &ourselves()).await.map_err(refused)?.into()),
        }
    }

    pub(super) async fn unban(&self, address: &str) -> Result<Unbanned, Failure> {
        match self {
            Self::Server(directory) => ask(directory, Method::POST, "/unban", Some(json!({ "email": address }))).await,
            Self::Ourselves(people, _) => {
                let id = people.unban(address, &ourselves()).await.map_err(refused)?;
                Ok(Unbanned { id })
            }
        }
    }

    pub(super) async fn undergo(&self, user: &str, deed: Deed) -> Result<PersonView, Failure> {
        let id = self.id_of(user).await?;
        match self {
            Self::Server(directory) => {
                let (method, path) = match deed {
                    Deed::Disable => (Method::POST, format!("/{id}/disable")),
                    Deed::Enable => (Method::POST, format!("/{id}/enable")),
                    Deed::Reset => (Method::POST, format!("/{id}/reset")),
                    Deed::Delete => (Method::DELETE, format!("/{id}")),
                };
                ask(directory, method, &path, None).await
            }
            Self::Ourselves(people, _) => {
                let by = ourselves();
                let done = match deed {
                    Deed::Disable => people.disable(id, &by).await,
                    Deed::Enable => people.enable(id, &by).await,
                    Deed::Reset => people.reset(id, &by).await,
                    Deed::Delete => people.delete(id, &by).await,
                };
                Ok(done.map_err(refused)?.into())
            }
        }
    }

    /// The id of who was named by address or id.
    async fn id_of(&self, user: &str) -> Result<Uuid, Failure> {
        if let Ok(id) = user.parse() {
            return Ok(id);
        }
        match self {
            Self::Server(directory) => {
                let found: PersonView = ask(directory, Method::POST, "/find", Some(json!({ "email": user }))).await?;
                Ok(found.id)
            }
            Self::Ourselves(people, _) => Ok(people.find(user).await.map_err(refused)?.id),
        }
    }
}

async fn ask<T: DeserializeOwned>(
    directory: &Path,
    method: Method,
    rest: &str,
    body: Option<Value>,
) -> Result<T, Failure> {
    let gone = || Failure::told(Exit::NotRunning, "the server has just ended; try again");
    let client = control::reach(directory).await?.ok_or_else(gone)?;
    client.call(method, &format!("/api/users{rest}"), body.as_ref()).await
}

/// The account that this process runs as.
fn ourselves() -> Operator {
    Operator { name: format!("uid {}", rustix::process::geteuid().as_raw()), from: None }
}

fn refused(error: PeopleError) -> Failure {
    match error {
        PeopleError::Account(AccountError::Store(error)) => error.into(),
        error => anyhow!(error).into(),
    }
}
