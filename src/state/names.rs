//! Given names: the DNS labels of nodes (protocol section 9.3).

use imbl::OrdMap;

/// The longest DNS label, in bytes (RFC 1035).
const MAX_LABEL: usize = 63;
/// The longest name with all its labels and dots, in bytes (RFC 1035).
const MAX_FQDN: usize = 255;
/// The longest base whose numbered form is never cut, whatever the number.
const MAX_UNCUT_BASE: usize = MAX_LABEL - 21;
/// What a node is called whose host name has nothing that a label may hold.
const NAMELESS: &str = "node";
/// Suffixes that machines put behind their host name by themselves.
const LOCAL_SUFFIXES: [&str; 3] = [".localdomain", ".local", ".lan"];

/// The label that a host name gives: lower case, letters, digits and dashes.
pub(super) fn sanitize(hostname: &str) -> String {
    let hostname = hostname.trim().trim_end_matches('.');
    let name = LOCAL_SUFFIXES
        .iter()
        .find_map(|suffix| {
            let cut = hostname.len().checked_sub(suffix.len())?;
            let tail = hostname.get(cut..)?;
            tail.eq_ignore_ascii_case(suffix).then(|| &hostname[..cut])
        })
        .unwrap_or(hostname);
    let mapped: String = name
        .chars()
        .filter_map(|c| match c {
            ' ' | '.' | '@' | '_' | '-' => Some('-'),
            c if c.is_ascii_alphanumeric() => Some(c.to_ascii_lowercase()),
            _ => None,
        })
        .take(MAX_LABEL)
        .collect();
    let label = mapped.trim_matches('-');
    if label.is_empty() { NAMELESS.into() } else { label.into() }
}

/// Checks a name that an administrator chose; the error says what is wrong with it.
pub(super) fn validate(name: &str, base_domain: &str) -> Result<(), String> {
    let fault = if name.is_empty() {
        return Err("it is empty".into());
    } else if name.len() > MAX_LABEL {
        return Err(format!("{name:?} is too long, max length is {MAX_LABEL} bytes"));
    } else if name.bytes().any(|b| b.is_ascii_uppercase()) {
        "must be lowercase"
    } else if !name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric()) {
        "must start with a letter or number"
    } else if !name.bytes().last().is_some_and(|b| b.is_ascii_alphanumeric()) {
        "must end with a letter or number"
    } else if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        "may hold letters, numbers and dashes only"
    } else if name.len() + base_domain.len() + 2 > MAX_FQDN {
        return Err(format!("{name:?} with the base domain {base_domain:?} is longer than {MAX_FQDN} bytes"));
    } else {
        return Ok(());
    };
    Err(format!("{name:?} is not a valid DNS label: {fault}"))
}

/// Where the search for a free `-N` starts, so that ten thousand machines of one
/// host name do not cost a search of ten thousand each. A hint only: every
/// suffix below it is taken, but without hints the search finds the same.
#[derive(Clone, Debug, Default)]
pub(super) struct FreeSuffixes(OrdMap<String, u64>);

impl FreeSuffixes {
    /// `base` if it is free, else `base-N` with the smallest `N` from 1 that is free.
    pub fn choose(&mut self, base: &str, is_taken: impl Fn(&str) -> bool) -> String {
        if !is_taken(base) {
            return base.into();
        }
        let hinted = base.len() <= MAX_UNCUT_BASE;
        let mut number = if hinted { self.0.get(base).copied().unwrap_or(1) } else { 1 };
        let name = loop {
            let name = numbered(base, number);
            number += 1;
            if !is_taken(&name) {
                break name;
            }
        };
        if hinted {
            // The name that was found may still not be used, so it stays possible.
            self.0.insert(base.into(), number - 1);
        }
        name
    }

    /// A name is free again.
    pub fn release(&mut self, name: &str) {
        let Some((base, digits)) = name.rsplit_once('-') else { return };
        let Ok(number) = digits.parse::<u64>() else { return };
        match self.0.get(base) {
            Some(_) if number <= 1 => drop(self.0.remove(base)),
            Some(&hint) if number < hint => drop(self.0.insert(base.into(), number)),
            _ => {}
        }
    }
}

fn numbered(base: &str, number: u64) -> String {
    let suffix = format!("-{number}");
    let kept = base.len().min(MAX_LABEL - suffix.len());
    format!("{}{suffix}", base[..kept].trim_end_matches('-'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_host_name_becomes_a_label() {
        for (hostname, label) in [
            ("web", "web"),
            ("Alice's MacBook Pro", "alices-macbook-pro"),
            ("nas.local", "nas"),
            ("NAS.LOCAL", "nas"),
            ("box.localdomain", "box"),
            ("router.lan", "router"),
            ("a.b.example.com", "a-b-example-com"),
            ("  -weird_name@home-  ", "weird-name-home"),
            ("Bücherwurm", "bcherwurm"),
            ("電腦", "node"),
            ("", "node"),
            ("---", "node"),
            (".local", "node"),
            ("ü.local", "node"),
        ] {
            assert_eq!(sanitize(hostname), label, "{hostname:?}");
        }
        assert_eq!(sanitize(&"x".repeat(100)).len(), 63);
        assert_eq!(sanitize(&format!("{}-y", "x".repeat(62))), "x".repeat(62));
    }

    #[test]
    fn a_chosen_name_must_be_a_lower_case_label_and_fit_its_domain() {
        let error = |name: &str| validate(name, "example.net").unwrap_err();
        assert_eq!(validate("web-1", "example.net"), Ok(()));
        assert_eq!(error("web!"), "\"web!\" is not a valid DNS label: must end with a letter or number");
        assert_eq!(error("-web"), "\"-web\" is not a valid DNS label: must start with a letter or number");
        assert_eq!(error("Web"), "\"Web\" is not a valid DNS label: must be lowercase");
        assert_eq!(error("w b"), "\"w b\" is not a valid DNS label: may hold letters, numbers and dashes only");
        assert_eq!(error(""), "it is empty");
        assert!(error(&"x".repeat(64)).contains("too long"));
        assert!(validate("web", &"d".repeat(252)).is_err());
    }

    #[test]
    fn a_taken_name_gets_the_smallest_free_number() {
        let mut hints = FreeSuffixes::default();
        let mut taken = BTreeSet::new();
        let next = |hints: &mut FreeSuffixes, taken: &mut BTreeSet<String>| {
            let name = hints.choose("web", |name| taken.contains(name));
            taken.insert(name.clone());
            name
        };
        let names: Vec<_> = (0..4).map(|_| next(&mut hints, &mut taken)).collect();
        assert_eq!(names, ["web", "web-1", "web-2", "web-3"]);
        for freed in ["web-2", "web-1"] {
            taken.remove(freed);
            hints.release(freed);
        }
        let names: Vec<_> = (0..3).map(|_| next(&mut hints, &mut taken)).collect();
        assert_eq!(names, ["web-1", "web-2", "web-4"]);
    }

    #[test]
    fn a_numbered_name_is_never_too_long() {
        let base = "x".repeat(63);
        let name = FreeSuffixes::default().choose(&base, |name| name == base);
        assert_eq!(name, format!("{}-1", "x".repeat(61)));
    }
}
