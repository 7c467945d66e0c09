//! The routes of `/api/users`: the team's own users, for operators. Addresses never stand in a path or a query, which others write
//! into their logs.

mod view;

use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::middleware;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::accounts::{https_only, unkept};
use super::auth;
use super::client::ClientIp;
use super::control::audit::account;
use super::json::Json;
use super::params::{Path, Query};
use super::problem::{Problem, ProblemDocument};
use crate::accounts::Accounts;
use crate::accounts::people::{MAX_PAGE, Operator, People, PeopleError, Person};
use crate::operators::{Operators, Principal, Scope};
pub use view::{DeviceView, ExportView, MailView, PersonList, PersonView, SightView, Unbanned};

/// What the routes work with.
#[derive(Clone, Debug)]
pub struct Api {
    /// The accounts.
    pub accounts: Accounts,
    /// Who may ask.
    pub operators: Operators,
}

impl Api {
    /// All routes, behind the scope `admin`.
    pub fn routes(self) -> OpenApiRouter {
        let https = https_only(self.accounts.public_url().as_deref());
        Self::all()
            .route_layer(auth::require(&self.operators, Scope::Admin))
            .route_layer(middleware::map_response_with_state(https, unkept))
            .with_state(self)
    }

    /// The same with no guard of their own: for the control socket, which hears our own user only.
    pub fn unguarded(self) -> OpenApiRouter {
        Self::all().with_state(self)
    }

    fn all() -> OpenApiRouter<Self> {
        OpenApiRouter::new()
            .routes(routes!(list))
            .routes(routes!(find))
            .routes(routes!(unban))
            .routes(routes!(show, delete))
            .routes(routes!(export))
            .routes(routes!(disable))
            .routes(routes!(enable))
            .routes(routes!(reset))
    }

    fn people(&self) -> People {
        self.accounts.people()
    }
}

impl From<PeopleError> for Problem {
    fn from(error: PeopleError) -> Self {
        match error {
            PeopleError::Unknown(_) => Self::not_found("unknown_user", error.to_string()),
            PeopleError::Disabled => Self::conflict("account_disabled", error.to_string()),
            PeopleError::Account(error) => error.into(),
        }
    }
}

/// The operator who asks: by token, or through the control socket by the account on the machine.
struct By(Operator);

impl FromRequestParts<Api> for By {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Api) -> Result<Self, Problem> {
        let ClientIp(from) = ClientIp::of(parts);
        let token = parts.extensions.get::<Principal>().map(|token| format!("token {} ({})", token.name, token.id));
        let account = || parts.extensions.get().copied().map(account);
        let name = token.or_else(account).ok_or_else(|| {
            tracing::error!("a route of operators was asked by nobody in particular");
            Problem::internal()
        })?;
        Ok(Self(Operator { name, from }))
    }
}

fn id(text: &str) -> Result<Uuid, Problem> {
    // One form only: what a cursor and a log say is what is sent.
    let id = text.parse::<Uuid>().ok().filter(|id| id.to_string() == text);
    id.ok_or_else(|| Problem::not_found("unknown_user", "There is no user of that id.").field("id"))
}

fn done(person: Person, by: &Operator, what: &str) -> Json<PersonView> {
    let (user, operator) = (person.id, &by.name);
    tracing::info!(%user, operator, "user {user} was {what} by {operator}");
    Json(person.into())
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct PageQuery {
    /// Where to go on: `next` of the page before.
    cursor: Option<String>,
    /// 1 to 500. Default 100.
    limit: Option<usize>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct OfAddress {
    /// As anybody may type it.
    email: String,
}

/// The users, in the order in which they came
#[utoipa::path(get, path = "/api/users", tag = "users", security(("operator" = ["admin"])), params(PageQuery),
    responses((status = 200, body = PersonList)))]
async fn list(State(api): State<Api>, Query(page): Query<PageQuery>) -> Result<Json<PersonList>, Problem> {
    let limit = page.limit.unwrap_or(100);
    if !(1..=MAX_PAGE).contains(&limit) {
        return Err(Problem::bad_request("invalid_query", format!("limit is 1 to {MAX_PAGE}.")).field("limit"));
    }
    let unfit = |_| Problem::bad_request("invalid_query", "A cursor is `next` of the page before.").field("cursor");
    let after = page.cursor.map(|cursor| cursor.parse::<Uuid>().map_err(unfit)).transpose()?;
    let (people, next) = api.people().list(after, limit).await?;
    Ok(Json(PersonList::new(people, next)))
}

/// The user of an address
#[utoipa::path(post, path = "/api/users/find", tag = "users", security(("operator" = ["admin"])),
    request_body = OfAddress,
    responses((status = 200, body = PersonView),
        (status = 404, description = "`unknown_user`", body = ProblemDocument, content_type = "application/problem+json")))]
async fn find(State(api): State<Api>, Json(of): Json<OfAddress>) -> Result<Json<PersonView>, Problem> {
    Ok(Json(api.people().find(&of.email).await?.into()))
}

/// Forget the wrong guesses about an address
///
/// And how many codes were sent to it. The address need not have a user.
#[utoipa::path(post, path = "/api/users/unban", tag = "users", security(("operator" = ["admin"])),
    request_body = OfAddress,
    responses((status = 200, body = Unbanned)))]
async fn unban(State(api): State<Api>, By(by): By, Json(of): Json<OfAddress>) -> Result<Json<Unbanned>, Problem> {
    let id = api.people().unban(&of.email, &by).await?;
    let (operator, user) = (&by.name, id.map_or_else(|| "nobody".to_owned(), |id| id.to_string()));
    tracing::info!(user, operator, "the guesses about the address of {user} were forgotten by {operator}");
    Ok(Json(Unbanned { id }))
}

/// A user with logins and mails
#[utoipa::path(get, path = "/api/users/{id}", tag = "users", security(("operator" = ["admin"])),
    params(("id" = String, Path)),
    responses((status = 200, body = SightView),
        (status = 404, description = "`unknown_user`", body = ProblemDocument, content_type = "application/problem+json")))]
async fn show(State(api): State<Api>, Path(user): Path<String>) -> Result<Json<SightView>, Problem> {
    Ok(Json(api.people().show(id(&user)?).await?.into()))
}

/// Everything that is held about a user
///
/// For the user. It has no hashes, codes and tokens in it.
#[utoipa::path(get, path = "/api/users/{id}/export", tag = "users", security(("operator" = ["admin"])),
    params(("id" = String, Path)),
    responses((status = 200, body = ExportView),
        (status = 404, description = "`unknown_user`", body = ProblemDocument, content_type = "application/problem+json")))]
async fn export(State(api): State<Api>, By(by): By, Path(user): Path<String>) -> Result<Json<ExportView>, Problem> {
    Ok(Json(api.people().export(id(&user)?, &by).await?.into()))
}

/// Shut a user out
///
/// Every login ends at once, access tokens included, and no further one is let in. Only who proves to be the user is told why.
#[utoipa::path(post, path = "/api/users/{id}/disable", tag = "users", security(("operator" = ["admin"])),
    params(("id" = String, Path)),
    responses((status = 200, body = PersonView),
        (status = 404, description = "`unknown_user`", body = ProblemDocument, content_type = "application/problem+json")))]
async fn disable(State(api): State<Api>, By(by): By, Path(user): Path<String>) -> Result<Json<PersonView>, Problem> {
    Ok(done(api.people().disable(id(&user)?, &by).await?, &by, "disabled"))
}

/// Let a user log in again
#[utoipa::path(post, path = "/api/users/{id}/enable", tag = "users", security(("operator" = ["admin"])),
    params(("id" = String, Path)),
    responses((status = 200, body = PersonView),
        (status = 404, description = "`unknown_user`", body = ProblemDocument, content_type = "application/problem+json")))]
async fn enable(State(api): State<Api>, By(by): By, Path(user): Path<String>) -> Result<Json<PersonView>, Problem> {
    Ok(done(api.people().enable(id(&user)?, &by).await?, &by, "enabled"))
}

/// Have a user set a new password
///
/// The old one counts no more and every login ends, at once. The user gets a code by mail, to set a new one with; nobody else gets to
/// know it. Asked again, the code before is void.
#[utoipa::path(post, path = "/api/users/{id}/reset", tag = "users", security(("operator" = ["admin"])),
    params(("id" = String, Path)),
    responses((status = 200, body = PersonView),
        (status = 404, description = "`unknown_user`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 409, description = "`account_disabled`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "`mail_not_configured`", body = ProblemDocument, content_type = "application/problem+json")))]
async fn reset(State(api): State<Api>, By(by): By, Path(user): Path<String>) -> Result<Json<PersonView>, Problem> {
    Ok(done(api.people().reset(id(&user)?, &by).await?, &by, "asked for a new password"))
}

/// Delete a user
///
/// The account, its logins and the mails to its address are gone then. The audit log stays, and knows the id alone. Whoever registers
/// the address anew gets another id.
#[utoipa::path(delete, path = "/api/users/{id}", tag = "users", security(("operator" = ["admin"])),
    params(("id" = String, Path)),
    responses((status = 200, description = "As it was", body = PersonView),
        (status = 404, description = "`unknown_user`", body = ProblemDocument, content_type = "application/problem+json")))]
async fn delete(State(api): State<Api>, By(by): By, Path(user): Path<String>) -> Result<Json<PersonView>, Problem> {
    Ok(done(api.people().delete(id(&user)?, &by).await?, &by, "deleted"))
}
