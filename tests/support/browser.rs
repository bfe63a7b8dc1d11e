//! A person's browser as far as logins need one: it keeps cookies, follows redirects and
//! fills in forms.

use super::http::{Reply, request};
use std::collections::BTreeMap;

/// The longest way of redirects that any login takes.
const MOST_REDIRECTS: usize = 10;

#[derive(Clone, Default)]
pub struct Browser {
    /// By host, name and path.
    cookies: BTreeMap<(String, String, String), String>,
}

/// A page, and where it was.
#[derive(Debug)]
pub struct Visited {
    pub url: String,
    pub reply: Reply,
}

impl Browser {
    /// One request, without following where the answer points to.
    pub async fn ask(&mut self, method: &str, url: &str, body: &str) -> Reply {
        let (host, path) = parts(url);
        let path = path.split('?').next().unwrap_or_default().to_owned();
        let sent = self.cookies.iter().filter(|((of, _, scope), _)| *of == host && path.starts_with(scope.as_str()));
        let cookies: Vec<String> = sent.map(|((_, name, _), value)| format!("{name}={value}")).collect();
        let cookies = cookies.join("; ");
        let mut headers = vec![("content-type", "application/x-www-form-urlencoded")];
        if !cookies.is_empty() {
            headers.push(("cookie", &cookies));
        }
        let reply = request(method, url, &headers, body.as_bytes()).await.unwrap_or_else(|e| panic!("{e}"));
        for set in reply.headers.get_all("set-cookie") {
            self.keep(&host, set.to_str().expect("a cookie is text"));
        }
        reply
    }

    fn keep(&mut self, host: &str, set: &str) {
        let mut attributes = set.split(';').map(str::trim);
        let (name, value) = attributes.next().and_then(|pair| pair.split_once('=')).expect("a name and a value");
        let attributes: Vec<(&str, &str)> = attributes.map(|a| a.split_once('=').unwrap_or((a, ""))).collect();
        let attribute = |name: &str| attributes.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| *v);
        let path = attribute("path").unwrap_or("/");
        let key = (host.to_owned(), name.to_owned(), path.to_owned());
        let is_over = attribute("max-age") == Some("0")
            || attribute("expires").is_some_and(|at| at.starts_with("Thu, 01 Jan 1970"));
        if is_over {
            self.cookies.remove(&key)
        } else {
            self.cookies.insert(key, value.to_owned())
        };
    }

    /// Follows redirects to the first page; one to a URL that `stop` knows is not followed.
    pub async fn follow(&mut self, url: &str, stop: impl Fn(&str) -> bool) -> Visited {
        self.go("GET", url, "", stop).await
    }

    /// Fills in the only form of a page, and follows as [`Browser::follow`] does.
    pub async fn submit(&mut self, page: &Visited, fields: &str, stop: impl Fn(&str) -> bool) -> Visited {
        let url = absolute(&page.url, &attribute(&page.reply.body, "action"));
        self.go("POST", &url, fields, stop).await
    }

    async fn go(&mut self, method: &str, url: &str, body: &str, stop: impl Fn(&str) -> bool) -> Visited {
        let mut url = url.to_owned();
        let mut reply = self.ask(method, &url, body).await;
        for _ in 0..MOST_REDIRECTS {
            if !(300..400).contains(&reply.status) {
                return Visited { url, reply };
            }
            url = absolute(&url, reply.header("location"));
            if stop(&url) {
                return Visited { url, reply };
            }
            reply = self.ask("GET", &url, "").await;
        }
        panic!("more than {MOST_REDIRECTS} redirects, the last to {url}");
    }

    /// Takes the cookies of one host to another: as if both were one name's addresses.
    pub fn moves(&mut self, from: &str, to: &str) {
        let taken: Vec<_> = self.cookies.iter().filter(|((host, ..), _)| host == from).collect();
        let taken: Vec<_> =
            taken.into_iter().map(|((_, n, p), v)| ((to.to_owned(), n.clone(), p.clone()), v.clone())).collect();
        self.cookies.extend(taken);
    }
}

impl Visited {
    /// The value of the page's hidden field, as a form sends it.
    pub fn token(&self) -> String {
        format!("token={}", attribute(&self.reply.body, "name=\"token\" value"))
    }
}

/// `HOST:PORT` and the rest.
fn parts(url: &str) -> (String, String) {
    let (_, rest) = url.split_once("://").unwrap_or_else(|| panic!("{url} is a URL"));
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    (host.to_owned(), format!("/{path}"))
}

fn absolute(base: &str, target: &str) -> String {
    if target.contains("://") && !target.starts_with('/') {
        return target.to_owned();
    }
    let (scheme, _) = base.split_once("://").expect("a URL");
    format!("{scheme}://{}{target}", parts(base).0)
}

fn attribute(html: &str, name: &str) -> String {
    let (_, rest) = html.split_once(&format!("{name}=\"")).unwrap_or_else(|| panic!("{name} is in {html}"));
    rest.split_once('"').expect("a quote at its end").0.to_owned()
}
