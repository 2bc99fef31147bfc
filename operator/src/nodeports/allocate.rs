//! The choice of node ports.
//!
//! What the spec names goes first, then what is remembered, then what the Service holds at the moment, and only the rest
//! is chosen anew: the lowest free ports, which begin with the band that Kubernetes itself leaves to static choices
//! (none for a range of 16 or fewer, else the first `min(max(16, size / 32), 128)`). One number serves both protocols
//! of a port, as HTTP/3 wants it.

use std::collections::{BTreeMap, BTreeSet};

use super::pins::{Origin, Pins};
use super::range::{KnownRange, PortRange};
use super::refused::Refused;
use super::slot::{Held, Slot};
use super::wanted::{Need, Want};

/// All that a choice depends on.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The range in force.
    pub range: &'a KnownRange,
    /// Ports that are left alone.
    pub reserved: &'a [PortRange],
    /// The gateways' ports, each slot once.
    pub wanted: &'a [Want],
    /// What was pinned before.
    pub remembered: &'a Pins,
    /// What all Services of the cluster hold.
    pub held: &'a [Held],
}

/// Chooses a node port for everything that wants one, or tells all that is in the way.
pub fn allocate(question: &Question<'_>) -> Result<Pins, Vec<Refused>> {
    let mut choice = Choice::new(question);
    let mut refused = choice.explicit();
    let open = choice.keep();
    refused.extend(choice.choose(&open));
    refused.extend(choice.exchange());
    if refused.is_empty() { Ok(choice.finish()) } else { Err(refused) }
}

/// A choice in the making.
struct Choice<'a> {
    question: &'a Question<'a>,
    wanted: Vec<&'a Want>,
    /// Held by Services that are nobody's business of ours.
    foreign: BTreeMap<u16, &'a Held>,
    /// Wants by Service and port: one for each protocol.
    siblings: BTreeMap<(&'a str, &'a str, u16), Vec<&'a Want>>,
    /// Held by the very slots that want them.
    own: BTreeMap<&'a Slot, u16>,
    /// Better left alone, but taken when nothing else is left: kept for gateways that need no port at present, or held
    /// by Services of ours, which first have to give them up.
    second_best: BTreeSet<u16>,
    /// Given, and to whom.
    given: BTreeMap<u16, Vec<&'a Want>>,
    pins: Pins,
}

impl<'a> Choice<'a> {
    fn new(question: &'a Question<'a>) -> Self {
        let mut wanted: Vec<&Want> = question.wanted.iter().collect();
        wanted.sort_by_key(|want| want.turn());
        let services: BTreeSet<(&str, &str)> = wanted.iter().map(|want| service(&want.slot)).collect();
        let slots: BTreeSet<&Slot> = wanted.iter().map(|want| &want.slot).collect();
        let mut choice = Self {
            question,
            wanted,
            foreign: BTreeMap::new(),
            siblings: BTreeMap::new(),
            own: BTreeMap::new(),
            second_best: BTreeSet::new(),
            given: BTreeMap::new(),
            pins: Pins::default(),
        };
        for want in choice.wanted.iter().copied().filter(|want| want.port != 0) {
            choice.siblings.entry(port_of(want)).or_default().push(want);
        }
        for held in question.held {
            if slots.contains(&held.slot) {
                choice.own.insert(&held.slot, held.port);
                choice.second_best.insert(held.port);
            } else if held.ours || services.contains(&service(&held.slot)) {
                choice.second_best.insert(held.port);
            } else {
                choice.foreign.entry(held.port).or_insert(held);
            }
        }
        for want in choice.wanted.iter().filter(|want| want.need == Need::Idle) {
            choice.second_best.extend(question.remembered.get(&want.slot).map(|(port, _)| port));
        }
        choice
    }

    fn reserved(&self, port: u16) -> Option<PortRange> {
        self.question.reserved.iter().find(|range| range.contains(port)).copied()
    }

    fn give(&mut self, want: &'a Want, port: u16, from: Origin) {
        self.given.entry(port).or_default().push(want);
        self.pins.insert(want.slot.clone(), port, from);
    }

    /// What the spec names.
    fn explicit(&mut self) -> Vec<Refused> {
        let mut refused = Vec::new();
        for want in self.wanted.clone() {
            let Need::Explicit(port) = want.need else { continue };
            let slot = || want.slot.clone();
            if !self.question.range.range.contains(port) {
                refused.push(Refused::OutOfRange { slot: slot(), port, range: self.question.range.clone() });
            } else if let Some(by) = self.reserved(port) {
                refused.push(Refused::Reserved { slot: slot(), port, by });
            } else if let Some(holder) = self.foreign.get(&port) {
                refused.push(Refused::Taken { slot: slot(), holder: (*holder).clone() });
            } else if let Some(other) = self.rival(want, port) {
                refused.push(Refused::AskedTwice { slot: slot(), other: other.slot.clone(), port });
            } else {
                self.give(want, port, Origin::Spec);
            }
        }
        refused
    }

    /// Whether a port may go to somebody who doesn't insist on it.
    fn may_have(&self, want: &Want, port: u16) -> bool {
        self.question.range.range.contains(port)
            && self.reserved(port).is_none()
            && !self.foreign.contains_key(&port)
            && self.rival(want, port).is_none()
    }

    /// Who was given the port already and can't share it.
    fn rival(&self, want: &Want, port: u16) -> Option<&'a Want> {
        self.given.get(&port)?.iter().find(|other| !can_share(want, other)).copied()
    }

    /// What is remembered, and else what the Service holds; answers what is still open.
    fn keep(&mut self) -> Vec<&'a Want> {
        let mut open: Vec<&Want> = self.wanted.iter().copied().filter(|want| want.need == Need::Choose).collect();
        let memory = self.question.remembered;
        open.retain(|want| !self.keeps(want, memory.get(&want.slot).map(|(port, _)| port)));
        open.retain(|want| !self.keeps(want, self.own.get(&want.slot).copied()));
        open
    }

    fn keeps(&mut self, want: &'a Want, port: Option<u16>) -> bool {
        let port = port.filter(|port| self.may_have(want, *port));
        if let Some(port) = port {
            self.give(want, port, Origin::Assigned);
        }
        port.is_some()
    }

    /// The rest, from what is free.
    fn choose(&mut self, open: &[&'a Want]) -> Option<Refused> {
        let range = self.question.range.range;
        let (best, second_best): (Vec<u16>, Vec<u16>) =
            range.ports().filter(|port| self.is_free(*port)).partition(|port| !self.second_best.contains(port));
        let free = best.len() + second_best.len();
        let mut candidates = best.into_iter().chain(second_best);
        let mut needed = 0;
        let mut short = false;
        for want in open {
            if let Some(port) = self.of_sibling(want) {
                self.give(want, port, Origin::Assigned);
                continue;
            }
            needed += 1;
            match candidates.next() {
                Some(port) => self.give(want, port, Origin::Assigned),
                None => short = true,
            }
        }
        short.then(|| {
            let reserved = range.ports().filter(|port| self.reserved(*port).is_some()).count();
            let held = self.foreign.keys().filter(|port| range.contains(**port)).count();
            Refused::Exhausted { needed, free, reserved, held, range: self.question.range.clone() }
        })
    }

    fn is_free(&self, port: u16) -> bool {
        self.reserved(port).is_none() && !self.foreign.contains_key(&port) && !self.given.contains_key(&port)
    }

    /// The port that the same port of the Service has for the other protocol.
    fn of_sibling(&self, want: &Want) -> Option<u16> {
        let siblings = self.siblings.get(&port_of(want)).into_iter().flatten().filter(|other| other.slot != want.slot);
        siblings
            .filter_map(|other| self.pins.get(&other.slot))
            .map(|(port, _)| port)
            .find(|port| self.may_have(want, *port))
    }

    /// Ports that Services would have to exchange. Each can only be written when the other has given up its port.
    fn exchange(&self) -> Option<Refused> {
        let holders: BTreeMap<u16, &Slot> = self.own.iter().map(|(slot, port)| (*port, *slot)).collect();
        let waits: Vec<Wait<'_>> = self
            .pins
            .iter()
            .filter_map(|(slot, port, _)| Some(Wait { slot, holder: holders.get(&port).copied()?, port }))
            .filter(|wait| service(wait.slot) != service(wait.holder))
            .collect();
        waits.iter().find(|wait| wait.is_in_a_circle(&waits)).map(|wait| Refused::Exchange {
            slot: wait.slot.clone(),
            holder: wait.holder.clone(),
            port: wait.port,
        })
    }

    /// The pins, and beside them what is remembered for later.
    fn finish(mut self) -> Pins {
        for want in self.wanted.clone().into_iter().filter(|want| want.need == Need::Idle) {
            if let Some((port, from)) = self.question.remembered.get(&want.slot)
                && self.may_have(want, port)
            {
                self.give(want, port, from);
            }
        }
        self.pins
    }
}

/// A slot that is to have a port which another Service of ours still holds.
struct Wait<'a> {
    slot: &'a Slot,
    holder: &'a Slot,
    port: u16,
}

impl Wait<'_> {
    /// Whether the holder waits, by way of others perhaps, for what this slot's Service gives up.
    fn is_in_a_circle(&self, all: &[Wait<'_>]) -> bool {
        let mut seen = BTreeSet::new();
        let mut next = vec![service(self.holder)];
        while let Some(at) = next.pop() {
            if seen.insert(at) {
                next.extend(all.iter().filter(|wait| service(wait.slot) == at).map(|wait| service(wait.holder)));
            }
        }
        seen.contains(&service(self.slot))
    }
}

fn service(slot: &Slot) -> (&str, &str) {
    (&slot.namespace, &slot.service)
}

/// A port of a Service, whatever its protocol.
fn port_of(want: &Want) -> (&str, &str, u16) {
    (&want.slot.namespace, &want.slot.service, want.port)
}

/// The API server lets two ports of one Service have the same number, if their protocols differ.
fn can_share(a: &Want, b: &Want) -> bool {
    service(&a.slot) == service(&b.slot) && a.port != 0 && b.port != 0 && a.protocol != b.protocol
}

#[cfg(test)]
mod laws;
#[cfg(test)]
mod tests;
