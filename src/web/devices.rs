//! How to point clients at this server: pages for people, profiles for Apple's
//! devices.

use super::Options;
use super::error::error_page;
use super::page::{Page, escape};
use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::sync::Arc;

/// `/apple`, `/apple/{platform}`, `/windows`.
pub fn routes() -> Router<Arc<Options>> {
    Router::new().route("/apple", get(apple)).route("/apple/{platform}", get(profile)).route("/windows", get(windows))
}

async fn apple(State(options): State<Arc<Options>>) -> Page {
    let url = &options.server_url;
    Page::new("Apple", "iPhone, iPad, Mac and Apple TV")
        .section("iPhone and iPad")
        .steps(&[
            "Install Tailscale from the App Store, and open it.",
            "Tap the account icon in the top right corner, then \"Log in…\".",
            "In the menu at the top right, choose \"Use custom coordination server\".",
            "Enter the address below, and log in.",
        ])
        .command(url)
        .section("Mac")
        .text("In a terminal:")
        .command(&format!("tailscale login --login-server {url}"))
        .text(
            "Or hold Option while you click the Tailscale icon in the menu bar, and under Debug, Custom Login Server, \
             choose \"Add Account…\" and enter the address above.",
        )
        .section("Profiles for managed devices")
        .text("A profile makes this server the default. Look into it before you install it.")
        .link("/apple/ios", "Profile for iPhone and iPad")
        .link("/apple/macos-app-store", "Profile for Mac, Tailscale from the App Store")
        .link("/apple/macos-standalone", "Profile for Mac, Tailscale from its own site")
        .section("Apple TV")
        .steps(&[
            "Install Tailscale from the App Store. Do not log in yet.",
            "In Settings, Apps, Tailscale, under Alternate Coordination Server URL, enter the address below.",
            "Open Tailscale, and log in.",
        ])
        .command(url)
}

async fn windows(State(options): State<Arc<Options>>) -> Page {
    Page::new("Windows", "Windows")
        .steps(&[
            "Download Tailscale for Windows from tailscale.com, and install it.",
            "In a Command Prompt or PowerShell, run the command below, and follow the link that it opens.",
        ])
        .command(&format!("tailscale login --login-server {}", options.server_url))
}

/// A configuration profile that sets the server for Tailscale.
async fn profile(State(options): State<Arc<Options>>, Path(platform): Path<String>) -> Response {
    // The preference domains of Tailscale's apps.
    let domain = match platform.as_str() {
        "ios" => "io.tailscale.ipn.ios",
        "macos-app-store" => "io.tailscale.ipn.macos",
        "macos-standalone" => "io.tailscale.ipn.macsys",
        _ => {
            return error_page(
                StatusCode::BAD_REQUEST,
                "The platform must be ios, macos-app-store or macos-standalone.",
            );
        }
    };
    let headers = [
        (header::CONTENT_TYPE, "application/x-apple-aspen-config; charset=utf-8"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"quorumscale.mobileconfig\""),
    ];
    (headers, mobileconfig(domain, &options.server_url)).into_response()
}

/// The profile (Apple's Configuration Profile Reference: one payload in a profile).
fn mobileconfig(domain: &str, server_url: &str) -> String {
    let url = escape(server_url);
    let (profile, payload) = (uuid(), uuid());
    format!(
        r#"<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0"><dict>
  <key>PayloadType</key><string>Configuration</string>
  <key>PayloadVersion</key><integer>1</integer>
  <key>PayloadIdentifier</key><string>quorumscale.login-server</string>
  <key>PayloadUUID</key><string>{profile}</string>
  <key>PayloadDisplayName</key><string>Quorumscale</string>
  <key>PayloadDescription</key><string>Makes {url} the login server of Tailscale</string>
  <key>PayloadRemovalDisallowed</key><false/>
  <key>PayloadContent</key><array><dict>
    <key>PayloadType</key><string>{domain}</string>
    <key>PayloadVersion</key><integer>1</integer>
    <key>PayloadIdentifier</key><string>quorumscale.login-server.{domain}</string>
    <key>PayloadUUID</key><string>{payload}</string>
    <key>PayloadEnabled</key><true/>
    <key>ControlURL</key><string>{url}</string>
  </dict></array>
</dict></plist>
"#
    )
}

/// A random UUID (RFC 9562, version 4).
fn uuid() -> String {
    let mut bytes: [u8; 16] = rand::random();
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = hex::encode(bytes);
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}
