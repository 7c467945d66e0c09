//! The running server's part in a trial: it counts the login, and lends its phone. Without one the operator is told what
//! that means.

use std::path::Path;

use anyhow::Context;
use hyper::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::cli::control::{self, Lines};
use crate::cli::exit::Failure;
use crate::cli::output;
use crate::http::control::trial::{Told, Tried};
use crate::secret::Secret;

/// Where codes come from, besides the keyboard.
pub(super) struct Source {
    lines: Option<Lines>,
    phone: String,
}

impl Source {
    /// Asks the server of the store in `directory` for its part, and waits until it has the phone. `needs_phone`: the recipe
    /// waits for an SMS.
    pub(super) async fn open(
        directory: &Path,
        portal: Option<&str>,
        recipe: &Path,
        needs_phone: bool,
    ) -> Result<Self, Failure> {
        let mut source = Self { lines: None, phone: String::new() };
        let client = match portal {
            Some(_) => control::reach(directory).await?,
            None => None,
        };
        let (Some(portal), Some(client)) = (portal, client) else {
            let typed = if needs_phone { "\nIts code is typed here." } else { "" };
            let why = match portal {
                Some(_) => "No server runs",
                None => "The account is in no configuration",
            };
            output::print(&format!("{why}: the login is in no budget.{typed}\n"))?;
            return Ok(source);
        };
        let text = std::fs::read_to_string(recipe).with_context(|| recipe.display().to_string())?;
        let body = serde_json::to_value(Tried { recipe: text }).context("request")?;
        let path = format!("/portals/{}/trial", utf8_percent_encode(portal, NON_ALPHANUMERIC));
        let mut lines = match client.lines(Method::POST, &path, Some(&body)).await {
            Ok(lines) => lines,
            // In the configuration, and the server has not read that yet.
            Err(failure) if failure.refused().is_some_and(|refused| refused.code == "unknown_portal") => {
                output::print(&format!("The running server does not know {portal} yet: the login is in no budget.\n"))?;
                return Ok(source);
            }
            Err(failure) => return Err(failure),
        };
        while let Some(told) = lines.next().await? {
            match told {
                Told::Counted { left } => {
                    output::print(&format!(
                        "The server counts it in the budget of {portal}: {left} more in this hour.\n"
                    ))?;
                    if needs_phone {
                        output::print("Waiting for the phone …\n")?;
                    }
                }
                Told::Listening { phone } => {
                    output::print(&format!("The phone {phone} hands its code over; it can be typed here, too.\n"))?;
                    (source.lines, source.phone) = (Some(lines), phone);
                    break;
                }
                Told::NoPhone { why } if needs_phone => {
                    output::print(&format!("The server lends no phone ({why}): type the code here.\n"))?;
                }
                Told::NoPhone { .. } | Told::Code { .. } | Told::NoCode { .. } => {}
            }
        }
        Ok(source)
    }

    /// The phone that is lent.
    pub(super) fn phone(&self) -> &str {
        &self.phone
    }

    /// The code from the phone, once, or why there is none; waits for ever when no phone is lent.
    pub(super) async fn code(&mut self) -> Result<Secret, String> {
        let Some(lines) = &mut self.lines else { return std::future::pending().await };
        let told = lines.next().await;
        self.lines = None;
        match told {
            Ok(Some(Told::Code { code })) => Ok(Secret::new(code)),
            Ok(Some(Told::NoCode { why })) => Err(why),
            Ok(_) | Err(_) => Err("the server hung up".to_owned()),
        }
    }
}
