//! Whether a user may give a tag to nodes, and by which entry of `tagOwners`.

use super::super::{Owner, Policy};
use super::place::{Place, Places};
use super::subject::find_user;
use super::{ExplainError, Explainer};
use crate::state::{Tag, UserId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The answer for a tag.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TagExplanation {
    pub tag: String,
    pub user: String,
    pub allowed: bool,
    /// The tag's entry in `tagOwners`; none: the policy does not have it.
    pub place: Option<Place>,
    pub owners: Vec<TagOwner>,
    pub notes: Vec<String>,
}

/// One owner in the tag's entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TagOwner {
    pub name: String,
    /// Whether it means the user, by itself or through other tags.
    pub matches: bool,
    /// The tags in between, for an owner that is a tag.
    pub through: Vec<String>,
}

pub(super) fn explain(explainer: &Explainer, tag: &str, user: &str) -> Result<TagExplanation, ExplainError> {
    let parsed: Tag = tag.parse().map_err(|error| ExplainError::Question(format!("{tag:?}: {error}")))?;
    let user = find_user(explainer.state, user).ok_or_else(|| {
        ExplainError::Question(format!("{user:?} is no user (name, e-mail address or id): see \"users list\""))
    })?;
    let owners = explainer.policy.tag_owners.get(&parsed);
    let places = Places::of(explainer.text);
    let path = ["tagOwners", tag];
    let names = places.texts_at(&path).into_iter().zip(owners.into_iter().flatten());
    let owner = |(name, owner): (String, &Owner)| TagOwner {
        name,
        matches: owns(explainer, user.id, &parsed, owner),
        through: through(explainer, user.id, owner),
    };
    let mut notes = Vec::new();
    match owners {
        None => notes.push(format!("the policy does not have {tag}: add it to \"tagOwners\" with its owners")),
        Some(owners) if owners.is_empty() => {
            notes.push(
                "nobody owns it: only administrators give it, with \"nodes tag\" or a pre-authenticated key".into(),
            );
        }
        Some(_) => {}
    }
    Ok(TagExplanation {
        tag: tag.into(),
        user: user.name.clone(),
        allowed: explainer.policy.may_own(explainer.state, user.id, &parsed),
        place: owners.is_some().then(|| places.path(&path)),
        owners: names.map(owner).collect(),
        notes,
    })
}

/// Whether this owner alone lets the user give the tag.
fn owns(explainer: &Explainer, user: UserId, tag: &Tag, owner: &Owner) -> bool {
    let mut tag_owners = explainer.policy.tag_owners.clone();
    tag_owners.insert(tag.clone(), vec![owner.clone()]);
    let policy = Policy { tag_owners, ..explainer.base.clone() };
    policy.may_own(explainer.state, user, tag)
}

/// The shortest way from an owner that is a tag to one that is the user.
fn through(explainer: &Explainer, user: UserId, owner: &Owner) -> Vec<String> {
    let Owner::Tag(first) = owner else { return Vec::new() };
    let owners = &explainer.policy.tag_owners;
    let is_last = |tag: &Tag| {
        let direct = owners.get(tag).into_iter().flatten().filter(|owner| !matches!(owner, Owner::Tag(_)));
        let policy =
            Policy { tag_owners: BTreeMap::from([(tag.clone(), direct.cloned().collect())]), ..explainer.base.clone() };
        policy.may_own(explainer.state, user, tag)
    };
    let mut ways: Vec<Vec<&Tag>> = vec![vec![first]];
    let mut next = 0;
    while let Some(way) = ways.get(next).cloned() {
        next += 1;
        let Some(last) = way.last() else { break };
        if is_last(last) {
            return way.iter().map(ToString::to_string).collect();
        }
        for owner in owners.get(*last).into_iter().flatten() {
            if let Owner::Tag(tag) = owner
                && !ways.iter().any(|way| way.last() == Some(&tag))
            {
                ways.push(way.iter().copied().chain([tag]).collect());
            }
        }
    }
    Vec::new()
}
