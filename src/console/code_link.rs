//! The page behind the one-time link of an alert, `/code/{token}`: begins a login and takes its code from a person's hand.
//!
//! The token in the path is the whole proof: there are no cookies, so no other site can use anybody's. Looking (GET) never
//! changes anything. A token that is unknown, expired or used up gets one and the same answer.

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use url::form_urlencoded;
use utoipa_axum::router::OpenApiRouter;
use zeroize::Zeroizing;

use super::{STYLE, page};
use crate::http::body::Raw;
use crate::http::params::Path;
use crate::http::problem::Problem;
use crate::portals::Portals;
use crate::portals::code_link::{CodeLink, LinkError, PATH, Stage, Typed};
use crate::portals::inbox::NotTyped;
use crate::portals::portal::PortalError;
use crate::secret::Secret;

pub(super) fn routes(portals: Portals) -> OpenApiRouter {
    // A page for people: it is no part of what `/openapi.json` describes to programs.
    OpenApiRouter::new().route("/code/{token}", get(look).post(act)).with_state(portals)
}

/// What the page shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scene {
    Nothing,
    TooOften,
    Idle,
    LoggingIn,
    AwaitsCode,
    Pending,
    Accepted,
    Live,
    Paused,
}

impl From<Stage> for Scene {
    fn from(stage: Stage) -> Self {
        match stage {
            Stage::Idle => Self::Idle,
            Stage::LoggingIn => Self::LoggingIn,
            Stage::AwaitsCode => Self::AwaitsCode,
            Stage::Live => Self::Live,
            Stage::Paused => Self::Paused,
        }
    }
}

#[derive(Template)]
#[template(path = "code_link.html")]
struct CodePage<'a> {
    scene: Scene,
    portal: &'a str,
    note: &'a str,
    until: String,
    digits: bool,
    style: &'static str,
}

/// Shows what can be done now; changes nothing.
async fn look(State(portals): State<Portals>, Path(token): Path<String>) -> Result<Response, Problem> {
    let Some(link) = open(&portals, &token)? else { return Ok(nothing()) };
    now(&link, "")
}

/// The form of the page: `login=now` begins a login, `code=…` types its code.
async fn act(State(portals): State<Portals>, Path(token): Path<String>, Raw(body): Raw) -> Result<Response, Problem> {
    let Some(link) = open(&portals, &token)? else { return Ok(nothing()) };
    let field = |wanted: &str| form_urlencoded::parse(&body).find(|(name, _)| name == wanted).map(|(_, value)| value);
    if let Some(typed) = field("code") {
        return code(&link, &plain(&typed)).await;
    }
    if field("login").is_none() {
        return now(&link, "");
    }
    match link.log_in().await {
        Ok(()) => Ok((StatusCode::SEE_OTHER, [(LOCATION, format!("{PATH}{token}"))]).into_response()),
        Err(error) => refused(&link, error),
    }
}

async fn code(link: &CodeLink, typed: &Secret) -> Result<Response, Problem> {
    match link.type_code(typed).await {
        Ok(Typed::Accepted) => Ok(show(link, Scene::Accepted, "")),
        Ok(Typed::Pending) => Ok(show(link, Scene::Pending, "")),
        Ok(Typed::AskedAgain) => now(link, "The portal did not accept that code. Type the newest one."),
        Ok(Typed::Failed) => {
            now(link, "The login with that code failed. Look at the phone for a newer code before you try again.")
        }
        Err(error) => refused(link, error),
    }
}

fn refused(link: &CodeLink, error: LinkError) -> Result<Response, Problem> {
    match error {
        LinkError::Closed => Ok(nothing()),
        LinkError::TooOften => Ok(page(StatusCode::TOO_MANY_REQUESTS, &content(link, Scene::TooOften, ""))),
        LinkError::Portal(PortalError::Code(NotTyped::NotWaiting)) => {
            now(link, "No login waits for a code now; the code was not used.")
        }
        LinkError::Portal(PortalError::Code(none @ (NotTyped::Malformed | NotTyped::Length(_)))) => {
            now(link, &format!("{none}."))
        }
        LinkError::Portal(error) => Err(error.into()),
        LinkError::Store(error) => Err(PortalError::from(error).into()),
    }
}

fn open(portals: &Portals, token: &str) -> Result<Option<CodeLink>, Problem> {
    portals.code_link(token).map_err(|error| PortalError::from(error).into())
}

/// The page as it is now.
fn now(link: &CodeLink, note: &str) -> Result<Response, Problem> {
    Ok(show(link, link.stage()?.into(), note))
}

fn show(link: &CodeLink, scene: Scene, note: &str) -> Response {
    page(StatusCode::OK, &content(link, scene, note))
}

fn content<'a>(link: &'a CodeLink, scene: Scene, note: &'a str) -> CodePage<'a> {
    let until = if scene == Scene::Accepted { String::new() } else { link.until().local() };
    CodePage { scene, portal: link.portal().name(), note, until, digits: link.wants_digits(), style: STYLE }
}

fn nothing() -> Response {
    let page_of_nothing =
        CodePage { scene: Scene::Nothing, portal: "", note: "", until: String::new(), digits: false, style: STYLE };
    page(StatusCode::NOT_FOUND, &page_of_nothing)
}

/// A code as people copy it: with spaces or dashes in it, in full-width digits.
fn plain(typed: &str) -> Secret {
    let bare = typed.chars().filter(|character| !character.is_whitespace() && *character != '-');
    let narrow = |character: char| match character {
        '\u{ff10}'..='\u{ff19}' => char::from_u32(u32::from(character) - 0xfee0).unwrap_or(character),
        other => other,
    };
    let text: Zeroizing<String> = Zeroizing::new(bare.map(narrow).collect());
    Secret::new(text.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn html(scene: Scene, portal: &str, note: &str) -> String {
        CodePage { scene, portal, note, until: "17:40 KST".to_owned(), digits: true, style: STYLE }.render().unwrap()
    }

    #[test]
    fn names_survive_and_cannot_become_markup() {
        let page = html(Scene::Idle, "한빛<b>\"&'", "<script>");
        assert!(page.contains("한빛") && !page.contains("<b>") && !page.contains("<script"), "{page}");
        assert!(page.contains("Log in now") && page.contains("17:40 KST"), "{page}");
        assert!(html(Scene::LoggingIn, "a", "").contains("http-equiv=\"refresh\""));
        assert!(!html(Scene::AwaitsCode, "a", "").contains("refresh"), "a page that is typed into must stay");
    }

    #[test]
    fn codes_are_taken_as_people_copy_them() {
        for typed in [" 572-913\n", "572 913", "５７２９１３"] {
            assert_eq!(plain(typed).expose(), "572913");
        }
    }
}
