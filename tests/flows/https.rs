//! Providers behind TLS: called when their certificate is trusted, and sent nothing when it is not.

use std::path::Path;

use reqwest::{Client, Method};
use serde_json::json;

use crate::appliance::Appliance;
use crate::desk::USER;
use crate::provider::Provider;

#[tokio::test]
async fn an_https_provider_is_called_only_when_its_certificate_is_trusted() {
    let file = |name: &str| Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls").join(name));
    let mut appliance = Appliance::beside(Provider::encrypted().await, file("cert.pem")).await;
    let client = Client::builder().no_proxy().build().unwrap();
    let begun = appliance.send(&client, Method::POST, "identity", USER).await.unwrap();
    let path = format!("identity/{}", begun.body["id"].as_str().unwrap());
    let step = format!("{path}/simple-auth");

    // The machine's certificates do not include the provider's.
    appliance.trusted = None;
    appliance.die_and_come_back().await;
    let refused = appliance.send_once(&client, Method::POST, &step, "", None).await.unwrap();
    assert_eq!((refused.status, &refused.body["cause"]), (502, &json!("unreachable")), "{}", refused.text);
    assert!(appliance.provider.requests().is_empty());

    appliance.trusted = file("cert.pem");
    appliance.die_and_come_back().await;
    let taken = appliance.send(&client, Method::POST, &step, "").await.unwrap();
    assert_eq!(taken.body["status"], "auth_request_sent");
    assert_eq!(taken.body["data"]["temp_auth_data"]["txId"], "tx-1");
}
