//! A login as a person goes through it, in Chromium.

use crate::support::{Chromium, Cluster, Fleet, Provider, Settings, Up, eventually};
use std::time::Duration;

const SHOWN: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn a_person_logs_in_and_confirms_in_a_real_browser() {
    let provider = Provider::start().await;
    let cluster = Cluster::start_with(1, Settings { config: provider.config(""), ..Settings::default() }).await;
    let fleet = Fleet::start(&[]);
    let (laptop, desk) =
        (fleet.up("laptop", Up::at(cluster.url(1))).await, fleet.up("desk", Up::at(cluster.url(1))).await);
    let (first, second) = (laptop.auth_url().await, desk.auth_url().await);
    let browser = Chromium::start().await;

    browser.visit(&first).await;
    browser.shows("Log in", SHOWN).await;
    browser.run("document.forms[0].login.value='carol'; document.forms[0].submit()").await;
    browser.shows("Is this your machine?", SHOWN).await;
    let text = browser.text().await;
    assert!(text.contains("laptop") && text.contains("The carol (carol@example.com)"), "{text}");
    assert_eq!(browser.run("return document.querySelectorAll('script').length").await, 1, "the page's own");
    browser.run("document.querySelector('form button').click()").await;
    browser.shows("Node registered", SHOWN).await;
    laptop.running().await;

    // The provider knows the browser by now: the second machine needs one click.
    browser.visit(&second).await;
    browser.shows("desk", SHOWN).await;
    let fits = "return document.documentElement.scrollWidth <= document.documentElement.clientWidth";
    assert_eq!(browser.run(fits).await, true);
    browser.run("document.querySelector('form button').click()").await;
    browser.shows("Node registered", SHOWN).await;
    desk.running().await;
    eventually("both machines are carol's", SHOWN, || {
        cluster.nodes(1).iter().filter(|node| node["user"]["email"] == "carol@example.com").count() == 2
    })
    .await;
}
