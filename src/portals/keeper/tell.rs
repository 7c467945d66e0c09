//! Tells a person through the alerts room, when the record says so, and when the need is over. The record remembers what
//! was told: a crash in between tells neither twice nor never.

use super::Keeper;
use crate::alerts::AlertError;
use crate::portals::letter::{self, ByHand, Need};
use crate::portals::recipe::Cause;
use crate::portals::state::PortalRecord;
use crate::portals::{code_link, retire};
use crate::store::StoreError;

impl Keeper {
    /// The record still says that an alert is due, so the next turn of the loop tries again.
    fn not_told(&self, error: &AlertError) -> Result<(), StoreError> {
        tracing::error!(portal = self.portal.name(), "portal {}: no alert: {error}", self.portal.name());
        Ok(())
    }

    /// Hands wanted alerts over to the alerts room, and says so when the need is over.
    pub(super) async fn tell(&mut self, record: &PortalRecord) -> Result<(), StoreError> {
        let Some(alert) = record.alert.clone() else { return Ok(()) };
        let (alerts, subject) = (self.portal.tools().alerts.clone(), retire::subject(self.portal.name()));
        let given_up = record.recovery.given_up.is_some() || record.upkeep.given_up.is_some();
        let whole = self.missing(record).is_none() && !record.tolerates_one(&self.portal.settings().basis);
        let healthy = !given_up && record.serving().is_some() && whole;
        if healthy {
            let name = self.portal.name();
            let (title, body) = (format!("Portal {name} works again"), format!("Portal {name} is logged in again."));
            if let Err(error) = alerts.resolve(&subject, &title, &body).await {
                return self.not_told(&error);
            }
            self.portal.change(|record| record.alert = None).await?;
        } else if !alert.raised {
            // Kept until it is told: the next turn of the loop tries again with the same picture.
            let (picture, by_hand) = (self.picture.clone(), self.by_hand(alert.cause).await?);
            let (name, cause, detail) = (self.portal.name(), alert.cause, alert.detail.as_str());
            let steps = &self.steps;
            let message = letter::needed(Need { name, record, cause, detail, picture, steps, by_hand });
            if let Err(error) = alerts.raise(&subject, &message).await {
                return self.not_told(&error);
            }
            self.picture = None;
            let raised = |record: &mut PortalRecord| {
                if let Some(now) = &mut record.alert {
                    now.raised |= now.cause == alert.cause;
                }
            };
            self.portal.change(raised).await?;
        }
        Ok(())
    }

    /// A way for a person to type the code that did not come.
    async fn by_hand(&self, cause: Cause) -> Result<Option<ByHand>, StoreError> {
        if !code_link::helps(cause) || !self.portal.recipe().needs_phone() {
            return Ok(None);
        }
        let Some(public_url) = self.portal.tools().alerts.public_url() else { return Ok(Some(ByHand::Api)) };
        let (token, until) = self.portal.issue_code_link().await?;
        let url = format!("{}{}{}", public_url.trim_end_matches('/'), code_link::PATH, token.expose());
        Ok(Some(ByHand::Link { url, until }))
    }
}
