//! How a policy names users.

use super::tailnet::Person;
use crate::state::{State, User};

/// `alice@` or `alice@example.com`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UserToken(String);

impl UserToken {
    /// The error says what is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        if !text.contains('@') || text == "@" {
            return Err(format!("username must contain @, got: {text:?}; write \"{text}@\" for the user {text:?}"));
        }
        Ok(Self(text.into()))
    }

    /// The users that it may mean: by identity, e-mail or name, without an `@` at its end.
    pub fn candidates<'s>(&'s self, state: &'s State) -> impl Iterator<Item = &'s User> + 's {
        let name = self.0.strip_suffix('@').unwrap_or(&self.0);
        state.users().map(AsRef::as_ref).filter(move |user| {
            user.name == name || user.email == name || (!user.provider_id.is_empty() && user.provider_id == name)
        })
    }

    /// The user that it means; `None`: there is none, or more than one, and then a
    /// guess could give somebody another's rights.
    pub fn resolve<'s>(&'s self, state: &'s State) -> Option<&'s User> {
        let mut candidates = self.candidates(state);
        let first = candidates.next();
        first.filter(|_| candidates.next().is_none())
    }

    /// As [`UserToken::resolve`].
    pub fn find<'p>(&self, people: &'p [Person]) -> Option<&'p Person> {
        let name = self.0.strip_suffix('@').unwrap_or(&self.0);
        let means = |person: &&Person| {
            person.name == name
                || person.email == name
                || (!person.provider_id.is_empty() && person.provider_id == name)
        };
        let mut found = people.iter().filter(means);
        let first = found.next();
        first.filter(|_| found.next().is_none())
    }

    /// The text, as the policy has it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
