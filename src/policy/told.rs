//! What one viewer is told of one peer, where not everybody is told the same: the
//! routes that go through it.
//!
//! A viewer is told of a route when one of the two may send packets to the other: the
//! viewer to addresses of the route, or those to the viewer. A rule with `via` tells
//! the way: only through routers with one of its tags.

use super::attrs::DISABLE_IPV4;
use super::classes::{ClassId, Placed};
use super::program::{Aim, Whither};
use super::ranges::Range;
use super::view::PolicyView;
use crate::state::{Node, NodeId, Owner, State, Tag};
use ipnet::IpNet;
use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

/// What a viewer is told of a peer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Told {
    /// Subnet routes that go through it, for this viewer.
    pub routes: Vec<IpNet>,
    /// Exit routes.
    pub exits: Vec<IpNet>,
    /// It is shown without its IPv4 address.
    pub no_ipv4: bool,
}

/// How the viewers of a class reach one route of a router.
#[derive(Clone, Debug, Default)]
pub(super) struct Reached {
    /// By rules that leave the way open.
    direct: bool,
    /// By rules that want a router with one of these tags.
    via: Vec<Arc<[Tag]>>,
}

/// By the class of the viewer, and the router: one for each of its routes.
pub(super) type ReachedByClass = HashMap<(ClassId, NodeId), Arc<[Reached]>>;

impl PolicyView {
    /// What `viewer` is told of `peer`, which it sees.
    pub fn told(&self, state: &State, viewer: NodeId, peer: &Node) -> Told {
        if self.tells_all_the_same(peer) {
            return Told::default();
        }
        if peer.approved_routes.is_empty() {
            return self.with_traits(peer.id, Told::default());
        }
        let routes = state.effective_routes(peer);
        let primary = state.primary_routes(peer.id);
        let leads = |route: IpNet, tags: Option<&[Tag]>| match tags {
            None => primary.contains(&route),
            Some(tags) => first_router(state, route, tags) == Some(peer.id),
        };
        let (exits, routes) = self.routes_told(viewer, peer.id, &routes, &leads);
        self.with_traits(peer.id, Told { routes, exits, ..Told::default() })
    }

    /// Whether every viewer is told the same of `peer`: nothing beside what it is.
    pub fn tells_all_the_same(&self, peer: &Node) -> bool {
        peer.approved_routes.is_empty() && !self.policy.gives_traits()
    }

    /// What the node's own client is told of it.
    pub fn told_itself(&self, state: &State, node: &Node) -> Told {
        if node.approved_routes.is_empty() {
            return self.with_traits(node.id, Told::default());
        }
        let exits = state.effective_routes(node).into_iter().filter(is_exit).collect();
        self.with_traits(node.id, Told { routes: state.primary_routes(node.id), exits, ..Told::default() })
    }

    /// Nodes of which not everybody may be told the same.
    pub fn special(&self) -> &[NodeId] {
        self.special.get_or_init(|| {
            let traits = self.policy.gives_traits();
            let is_special = |id: &NodeId| {
                let placed = self.classes.placed(*id);
                placed.is_some_and(|placed| traits || placed.device.exit || !placed.device.routes.is_empty())
            };
            self.classes.nodes().map(|(id, _)| id).filter(is_special).collect()
        })
    }

    /// The exit routes and the subnet routes of `peer` that `viewer` is told, of all that
    /// it has. `leads`: whether it is the one router of a route, or of a route among
    /// routers with one of these tags.
    pub(super) fn routes_told(
        &self,
        viewer: NodeId,
        peer: NodeId,
        routes: &[IpNet],
        leads: &dyn Fn(IpNet, Option<&[Tag]>) -> bool,
    ) -> (Vec<IpNet>, Vec<IpNet>) {
        if self.is_open() {
            let told = routes.iter().filter(|route| is_exit(route) || leads(**route, None));
            return told.partition(|route| is_exit(route));
        }
        let reached = if routes.is_empty() { Arc::default() } else { self.reached(viewer, peer, routes) };
        // A router that has the same route is told who it stands in for.
        let also_has = |route: &IpNet| self.classes.placed(viewer).is_some_and(|own| own.device.routes.contains(route));
        let told = routes.iter().zip(reached.iter()).filter(|(route, reached)| match is_exit(route) {
            true => reached.direct || !reached.via.is_empty(),
            false if reached.direct || also_has(route) => leads(**route, None),
            false => reached.via.iter().any(|tags| leads(**route, Some(tags))),
        });
        told.map(|(route, _)| *route).partition(is_exit)
    }

    fn with_traits(&self, node: NodeId, mut told: Told) -> Told {
        if self.policy.gives_traits() {
            told.no_ipv4 = self.attributes_of(node).contains_key(DISABLE_IPV4);
        }
        told
    }

    /// One for each of the routes: made once for all viewers of a class.
    fn reached(&self, viewer: NodeId, peer: NodeId, routes: &[IpNet]) -> Arc<[Reached]> {
        let (Some(class), Some(placed)) = (self.classes.placed(viewer), self.classes.placed(peer)) else {
            return routes.iter().map(|_| Reached::default()).collect();
        };
        let class = class.class;
        let mut known = self.reached.lock().unwrap_or_else(PoisonError::into_inner);
        let make = || routes.iter().map(|route| self.reach(class, placed, *route)).collect();
        let reached = known.entry((class, peer)).or_insert_with(make);
        // Whoever reads an older state may ask for other routes than those that were looked at.
        if reached.len() == routes.len() { reached.clone() } else { make() }
    }

    fn reach(&self, viewer: ClassId, peer: &Placed, route: IpNet) -> Reached {
        let (from, there) = (&self.classes.class(viewer).shape, &self.classes.class(peer.class).shape);
        let program = &self.classes.program;
        let (exit, range) = (is_exit(&route), Range::from(route));
        let is_here = |aim: &&Aim, bits| aim.here.as_ref().is_none_or(|here| here.meets(bits));
        let mut reached = Reached::default();
        for line in there.lines.iter().map(|line| &program.lines[*line]) {
            if !line.source().is_some_and(|source| from.is_from(source)) {
                continue;
            }
            for aim in line.targets.iter().filter(|aim| is_here(aim, &there.bits)) {
                let goes = match &aim.to {
                    Whither::Everything => true,
                    Whither::Range(to) => {
                        if exit {
                            aim.beyond
                        } else {
                            to.overlaps(&range)
                        }
                    }
                    Whither::Internet => exit,
                    Whither::Devices => false,
                };
                match (goes, aim.via.is_empty()) {
                    (true, true) => reached.direct = true,
                    (true, false) => reached.via.push(aim.via.clone()),
                    (false, _) => {}
                }
            }
        }
        // The other way round: the subnet's packets to the viewer.
        let sends = |source: usize| {
            let spec = &program.sources[source];
            spec.everywhere || spec.any || spec.ranges.iter().any(|other| other.overlaps(&range))
        };
        let mut back = from.lines.iter().map(|line| &program.lines[*line]);
        reached.direct |= !exit
            && back.any(|line| {
                line.source().is_some_and(sends) && line.targets.iter().any(|aim| is_here(&aim, &from.bits))
            });
        reached
    }
}

fn is_exit(route: &IpNet) -> bool {
    route.prefix_len() == 0
}

/// Of the routers of a route with one of these tags, the one that it goes through: one
/// that is online, and of those the primary one, else the one with the lowest id.
fn first_router(state: &State, route: IpNet, tags: &[Tag]) -> Option<NodeId> {
    let has_tag = |node: &Node| matches!(&node.owner, Owner::Tags(own) if tags.iter().any(|tag| own.contains(tag)));
    let routers = state.routers(route).filter_map(|id| state.node(id)).filter(|node| has_tag(node));
    let rank = |node: &Arc<Node>| (!state.is_online(node.id), !state.primary_routes(node.id).contains(&route), node.id);
    routers.min_by_key(|node| rank(node)).map(|node| node.id)
}
