//! Users, found by what names them.

use super::bits::Bits;
use super::selector::Selectors;
use super::tailnet::Person;
use crate::state::UserId;
use imbl::OrdMap;
use std::collections::BTreeSet;
use std::sync::Arc;

/// All users of a tailnet. Cloning is cheap.
#[derive(Clone, Debug, Default)]
pub(super) struct People {
    by_id: OrdMap<UserId, Arc<Person>>,
    /// Who has a text as name, e-mail address or identity.
    named: OrdMap<String, Vec<UserId>>,
}

impl People {
    /// Puts a user there, or takes one away. Returns all users who are now named
    /// otherwise: a text that names several names nobody.
    pub fn set(&mut self, id: UserId, person: Option<Person>) -> BTreeSet<UserId> {
        let mut affected = BTreeSet::from([id]);
        if let Some(old) = self.by_id.remove(&id) {
            for text in texts(&old) {
                let mut holders = self.named.remove(text).unwrap_or_default();
                holders.retain(|holder| *holder != id);
                affected.extend(&holders);
                if !holders.is_empty() {
                    self.named.insert(text.into(), holders);
                }
            }
        }
        if let Some(new) = person {
            for text in texts(&new) {
                let mut holders = self.named.get(text).cloned().unwrap_or_default();
                affected.extend(&holders);
                holders.push(id);
                self.named.insert(text.into(), holders);
            }
            self.by_id.insert(id, Arc::new(new));
        }
        affected
    }

    /// What holds for the devices of a user; `None`: there is no such user.
    pub fn bits(&self, id: UserId, selectors: &Selectors) -> Option<Bits> {
        let person = self.by_id.get(&id)?;
        let alone = |text: &&str| self.named.get(*text).is_some_and(|holders| holders.len() == 1);
        Some(selectors.of_person(person, texts(person).into_iter().filter(alone)))
    }

    /// By id, ascending.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Person>> {
        self.by_id.values()
    }
}

/// How a user may be named; each text once.
fn texts(person: &Person) -> BTreeSet<&str> {
    let all = [&person.name, &person.email, &person.provider_id];
    all.into_iter().map(String::as_str).filter(|text| !text.is_empty()).collect()
}
