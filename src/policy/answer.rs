//! Whether packets from one address get to another, and which rules let them.

use super::classes::{Classes, Placed};
use super::program::{Aim, From, Gives, Line, Shape, Whither};
use super::ranges::{INTERNET, TAILNET};
use std::collections::HashMap;
use std::net::IpAddr;

/// Answers for single addresses.
pub(super) struct Answers<'c> {
    classes: &'c Classes,
    devices: HashMap<IpAddr, &'c Placed>,
}

/// What a packet is, besides where it comes from and goes to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet<'p> {
    /// One of these IP protocols.
    pub protocols: &'p [u8],
    pub port: u16,
}

/// What rules without a protocol let through: TCP, UDP and ICMP.
const USUAL: [u8; 4] = [6, 17, 1, 58];

impl<'c> Answers<'c> {
    pub fn new(classes: &'c Classes) -> Self {
        let placed = || classes.nodes().filter_map(|(node, _)| classes.placed(node));
        let devices = placed().flat_map(|placed| placed.device.ips.iter().map(|ip| (*ip, &**placed))).collect();
        Self { classes, devices }
    }

    /// The lines that let such packets through, in the order of the document.
    pub fn lines(&self, from: IpAddr, to: IpAddr, packet: Packet<'_>) -> impl Iterator<Item = &'c Line> {
        let lines = self.classes.program.lines.iter().enumerate();
        let there = lines.filter(move |(number, line)| self.lets_through(*number, line, from, to, packet));
        there.map(|(_, line)| line)
    }

    fn lets_through(&self, number: usize, line: &Line, from: IpAddr, to: IpAddr, packet: Packet) -> bool {
        let Gives::Packets(protocol) = line.gives else { return false };
        let usual = || packet.protocols.iter().any(|number| USUAL.contains(number));
        let has_port = |aim: &&Aim| aim.ports.iter().any(|ports| (ports.first..=ports.last).contains(&packet.port));
        let mut targets = line.targets.iter().filter(has_port);
        protocol.map_or_else(usual, |protocol| packet.protocols.contains(&protocol))
            && match &line.from {
                From::Own(_, postures) => {
                    let has_posture =
                        || self.devices.get(&from).is_some_and(|placed| placed.device.has_posture(postures));
                    targets.next().is_some() && self.are_own(number, from, to) && (postures.is_empty() || has_posture())
                }
                From::Sources(source) => self.contains(*source, from) && targets.any(|aim| self.is_at(aim, to)),
            }
    }

    /// Whether a set of sources has the address.
    fn contains(&self, source: usize, ip: IpAddr) -> bool {
        let spec = &self.classes.program.sources[source];
        let any = || TAILNET.iter().chain(self.classes.beyond()).any(|range| range.contains(ip));
        spec.everywhere
            || spec.any && any()
            || spec.ranges.iter().any(|range| range.contains(ip))
            || self.devices.get(&ip).is_some_and(|placed| spec.owners.meets(&self.shape(placed).bits))
    }

    /// Whether both are addresses of one user's devices, whom the line is about.
    fn are_own(&self, line: usize, from: IpAddr, to: IpAddr) -> bool {
        let shape = |ip: &IpAddr| self.devices.get(ip).map(|placed| self.shape(placed));
        match (shape(&from), shape(&to)) {
            (Some(from), Some(to)) => from.own.is_some() && from.own == to.own && from.own_lines.contains(&line),
            _ => false,
        }
    }

    fn is_at(&self, aim: &Aim, ip: IpAddr) -> bool {
        match &aim.to {
            Whither::Everything => true,
            Whither::Range(range) => range.contains(ip),
            Whither::Internet => INTERNET.iter().any(|range| range.contains(ip)),
            Whither::Devices => {
                let here =
                    |placed: &&&Placed| aim.here.as_ref().is_none_or(|here| here.meets(&self.shape(placed).bits));
                self.devices.get(&ip).filter(here).is_some()
            }
        }
    }

    fn shape(&self, placed: &Placed) -> &'c Shape {
        &self.classes.class(placed.class).shape
    }
}
