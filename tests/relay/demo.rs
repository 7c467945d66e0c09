//! The demo's portal and a customer who logs in there by hand, as a browser would.
#![allow(dead_code, reason = "each binary that shares this uses its part of it")]

use std::collections::BTreeMap;

use nightporter::clock::Clock;
use nightporter::demo::phone::{Mode, Phone, Settings as PhoneSettings};
use nightporter::demo::portal::{Account, Controls, Portal, Settings, recipe_toml};
use nightporter::ids::Random;
use nightporter::lifecycle::Lifecycle;
use nightporter::secret::Secret;
use reqwest::redirect::Policy;

use super::house::{House, PATIENCE, Seed};

pub(crate) const USER: &str = "partner01";
const PASSWORD: &str = "열려라!";

pub(crate) struct Demo {
    pub(crate) portal: Portal,
    pub(crate) controls: Controls,
    pub(crate) seeds: Vec<Seed>,
    phone: Phone,
    _life: Lifecycle,
}

impl Demo {
    /// A portal at which two sessions are logged in: `first` and `second`.
    pub(crate) async fn start(clock: &Clock) -> Self {
        let (life, random) = (Lifecycle::new(), Random::seeded(11));
        let phone = Phone::start(PhoneSettings::capcom6("office", Secret::new("key")), clock, &random, &life);
        phone.set_mode(Mode::Silent);
        let mut account = Account::partner(&random, phone.line());
        account.password = Secret::new(PASSWORD);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let portal = Portal::start(listener, Settings::of(account), clock, &random, &life).unwrap();
        let controls = portal.controls();
        let mut demo = Self { portal, controls, seeds: Vec::new(), phone, _life: life };
        for id in ["first", "second"] {
            let seed = demo.log_in(id).await;
            demo.seeds.push(seed);
        }
        demo
    }

    /// An appliance that has these two sessions.
    pub(crate) async fn house(&self, clock: &Clock) -> House {
        House::new(&recipe_toml(&self.portal.base_url()), &self.seeds, clock).await
    }

    async fn log_in(&self, id: &str) -> Seed {
        let client = reqwest::Client::builder().redirect(Policy::none()).no_proxy().timeout(PATIENCE).build().unwrap();
        let mut customer = Customer { client, base: self.portal.base_url(), cookies: BTreeMap::new() };
        customer.submit("/login", &[("user", USER), ("pass", PASSWORD)]).await;
        customer.submit("/login/verify", &[]).await;
        let count = self.controls.counters(USER).codes_sent as usize;
        let sms = self.phone.received(count, PATIENCE).await.unwrap();
        let code: String = sms[count - 1].text.chars().filter(char::is_ascii_digit).collect();
        customer.submit("/login/code", &[("code", &code)]).await;
        let csrf = between(&customer.page("/home").await, "name=\"csrf\" content=\"");
        let cookies = customer.cookies.into_iter().collect();
        Seed { id: id.to_owned(), cookies, values: BTreeMap::from([("csrf".to_owned(), csrf)]) }
    }

    /// Ends the session at the portal that `seeds[which]` is.
    pub(crate) fn expire(&self, which: usize) {
        let logins = self.controls.logins(USER);
        assert!(self.controls.expire(&logins[which]));
    }
}

/// A client that keeps cookies and fills in forms.
struct Customer {
    client: reqwest::Client,
    base: String,
    cookies: BTreeMap<String, String>,
}

impl Customer {
    async fn call(&mut self, request: reqwest::RequestBuilder) -> String {
        let cookies: Vec<_> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let answer = request.header("cookie", cookies.join("; ")).send().await.unwrap();
        for cookie in answer.headers().get_all("set-cookie") {
            let (name, value) = cookie.to_str().unwrap().split(';').next().unwrap().split_once('=').unwrap();
            self.cookies.insert(name.into(), value.into());
        }
        answer.text().await.unwrap()
    }

    async fn page(&mut self, path: &str) -> String {
        self.call(self.client.get(format!("{}{path}", self.base))).await
    }

    async fn submit(&mut self, path: &str, fields: &[(&str, &str)]) {
        let token = between(&self.page(path).await, "name=\"token\" value=\"");
        let proof: String = token.chars().rev().collect();
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.append_pair("token", &token).append_pair("proof", &proof).extend_pairs(fields);
        let post = self.client.post(format!("{}{path}", self.base));
        self.call(post.header("content-type", "application/x-www-form-urlencoded").body(form.finish())).await;
    }
}

fn between(page: &str, before: &str) -> String {
    page.split_once(before).unwrap_or_else(|| panic!("no {before} in {page}")).1.split('"').next().unwrap().into()
}
