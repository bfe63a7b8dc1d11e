//! The frame that all pages share: one style, one small script, nothing from
//! elsewhere.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use base64::Engine;
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::sync::LazyLock;

/// A page that is being written. Text is escaped where it enters.
pub struct Page {
    status: StatusCode,
    title: String,
    body: String,
    /// Whether the page looks for a change of its own state (see `SCRIPT`).
    watch: Option<&'static str>,
    has_form: bool,
}

impl Page {
    /// A page with a heading. The title starts with the product's name.
    pub fn new(title: &str, heading: &str) -> Self {
        let mut body = String::new();
        let _ = write!(body, "<h1>{}</h1>", escape(heading));
        Self { status: StatusCode::OK, title: format!("Quorumscale - {title}"), body, watch: None, has_form: false }
    }

    /// Another status than 200.
    pub fn status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// Loads the page anew when `?state` answers something else than `state`.
    pub fn watch(mut self, state: &'static str) -> Self {
        self.watch = Some(state);
        self
    }

    /// A paragraph of plain text.
    pub fn text(self, text: &str) -> Self {
        self.html(&format!("<p>{}</p>", escape(text)))
    }

    /// A paragraph of lesser importance.
    pub fn note(self, text: &str) -> Self {
        self.html(&format!("<p class=\"note\">{}</p>", escape(text)))
    }

    /// A lesser heading.
    pub fn section(self, heading: &str) -> Self {
        self.html(&format!("<h2>{}</h2>", escape(heading)))
    }

    /// A command to copy.
    pub fn command(self, command: &str) -> Self {
        self.html(&format!(
            "<div class=\"command\"><code>{}</code><button type=\"button\" hidden>Copy</button></div>",
            escape(command)
        ))
    }

    /// A numbered list; each step is plain text.
    pub fn steps(self, steps: &[&str]) -> Self {
        let items: String = steps.iter().map(|step| format!("<li>{}</li>", escape(step))).collect();
        self.html(&format!("<ol>{items}</ol>"))
    }

    /// A link to a path of this server, or to a site that is written in the source.
    pub fn link(self, target: &'static str, text: &str) -> Self {
        self.html(&format!("<p><a href=\"{target}\">{}</a></p>", escape(text)))
    }

    /// A hidden field, and a button that posts it to a path of this server.
    pub fn form(mut self, action: &str, (name, value): (&str, &str), button: &str) -> Self {
        self.has_form = true;
        self.html(&format!(
            "<form method=\"post\" action=\"{}\"><input type=\"hidden\" name=\"{}\" value=\"{}\">\
             <button type=\"submit\">{}</button></form>",
            escape(action),
            escape(name),
            escape(value),
            escape(button)
        ))
    }

    /// Something that is HTML already. Whoever writes it escapes what is foreign.
    pub fn html(mut self, html: &str) -> Self {
        self.body.push_str(html);
        self
    }
}

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        let watch = self.watch.map(|state| format!(" data-state=\"{state}\"")).unwrap_or_default();
        let html = format!(
            "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
             <meta name=\"color-scheme\" content=\"light dark\"><meta name=\"robots\" content=\"noindex\">\
             <title>{}</title><link rel=\"icon\" type=\"image/svg+xml\" href=\"/favicon.ico\">\
             <style>{STYLE}</style></head><body{watch}><main><header>Quorumscale</header>{}</main>\
             <script>{SCRIPT}</script></body></html>\n",
            escape(&self.title),
            self.body
        );
        let mut response = (self.status, Html(html)).into_response();
        let headers = response.headers_mut();
        headers
            .insert(header::CONTENT_SECURITY_POLICY, if self.has_form { FORM_POLICY.clone() } else { POLICY.clone() });
        if self.has_form {
            // Else the browser would not say that the form comes from here.
            headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
        }
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
        }
        response
    }
}

/// `GET /`: nothing to see, with the icon.
pub async fn blank() -> Html<&'static str> {
    Html(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Quorumscale</title>\
         <link rel=\"icon\" type=\"image/svg+xml\" href=\"/favicon.ico\"></head><body></body></html>\n",
    )
}

/// Text as HTML, in elements and quoted attributes.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c if c.is_control() => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

/// Only this style and this script run, named by their hashes.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| policy("'none'"));
/// The same, with forms for this server.
static FORM_POLICY: LazyLock<HeaderValue> = LazyLock::new(|| policy("'self'"));

fn policy(form_action: &str) -> HeaderValue {
    let hash = |text: &str| base64::engine::general_purpose::STANDARD.encode(Sha256::digest(text.as_bytes()));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; connect-src 'self'; img-src 'self'; \
         base-uri 'none'; form-action {form_action}; frame-ancestors 'none'",
        hash(STYLE),
        hash(SCRIPT)
    );
    HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"))
}

const STYLE: &str = r#"
:root{--ink:#1d2733;--soft:#5a6878;--paper:#f4f6f9;--card:#fff;--line:#d9e0e8;--accent:#1f5fae;--code:#eef2f7}
@media (prefers-color-scheme:dark){:root{--ink:#e7edf4;--soft:#9dacbc;--paper:#10161d;--card:#18212b;--line:#2c3947;--accent:#7db4f5;--code:#0f171f}}
*{box-sizing:border-box}
body{margin:0;min-height:100vh;min-height:100dvh;background:var(--paper);color:var(--ink);font:1.0625rem/1.55 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;-webkit-text-size-adjust:100%}
main{max-width:42rem;margin:0 auto;padding:1.25rem 1.25rem 3rem}
header{color:var(--soft);font-weight:600;letter-spacing:.02em;margin-bottom:1.25rem}
h1{font-size:1.6rem;line-height:1.25;margin:0 0 1rem;overflow-wrap:anywhere}
h2{font-size:1.1rem;margin:2rem 0 .5rem}
p{margin:.75rem 0}
a{color:var(--accent)}
ol{padding-left:1.4rem}
li{margin:.4rem 0}
dl{display:grid;grid-template-columns:auto 1fr;gap:.35rem 1rem;margin:1rem 0;padding:.9rem 1rem;background:var(--card);border:1px solid var(--line);border-radius:.6rem}
dt{color:var(--soft)}
dd{margin:0;overflow-wrap:anywhere;font-weight:600}
.note{color:var(--soft);font-size:.95rem}
.command{display:flex;gap:.75rem;align-items:center;margin:.75rem 0;padding:.85rem 1rem;background:var(--code);border:1px solid var(--line);border-radius:.6rem}
.command code{flex:1;min-width:0;font:.95rem/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;white-space:pre-wrap;overflow-wrap:anywhere;-webkit-user-select:all;user-select:all}
button{flex:none;min-width:4.75rem;min-height:2.75rem;padding:0 .9rem;border:1px solid var(--accent);border-radius:.5rem;background:transparent;color:var(--accent);font:inherit;font-size:.95rem;font-weight:600;cursor:pointer}
button:focus-visible,a:focus-visible{outline:3px solid var(--accent);outline-offset:2px}
button[hidden]{display:none}
summary{cursor:pointer;color:var(--accent);padding:.4rem 0}
@media (max-width:30rem){.command{flex-direction:column;align-items:stretch}}
"#;

/// Copies a command at a tap (`execCommand` is what works without TLS), and
/// loads the page anew when its state changes.
const SCRIPT: &str = r#"
for (const button of document.querySelectorAll(".command button")) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    const code = button.previousElementSibling;
    let done = false;
    try { await navigator.clipboard.writeText(code.textContent); done = true; } catch (_) {}
    if (!done) {
      const range = document.createRange();
      range.selectNodeContents(code);
      const selection = getSelection();
      selection.removeAllRanges();
      selection.addRange(range);
      try { done = document.execCommand("copy"); } catch (_) {}
    }
    button.textContent = done ? "Copied" : "Press Ctrl+C";
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
}
const state = document.body.dataset.state;
if (state) {
  const look = async () => {
    if (!document.hidden) {
      try {
        const response = await fetch(location.pathname + "?state", { cache: "no-store" });
        const now = await response.text();
        if (response.ok && now !== state) { location.reload(); return; }
      } catch (_) {}
    }
    setTimeout(look, 3000);
  };
  setTimeout(look, 3000);
}
"#;
