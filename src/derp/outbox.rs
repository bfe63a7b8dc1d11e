//! What waits to be written to one client. Putting something in never waits:
//! a client that does not read loses its own oldest packets and nobody else's.

use super::frame::{self, kind};
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Packets that wait in one lane; more are of no use to a client that is this
/// far behind, since WireGuard sends what matters again. (Protocol section 8.3.)
const LANE_PACKETS: usize = 32;
/// Bytes that wait in one lane, so that packets of the largest size cannot make
/// one client cost megabytes. A single packet always fits.
const LANE_BYTES: usize = 512 * 1024;
/// Notices about peers that wait. They are hints: a client that misses one learns
/// the same from its next packet.
const NOTICES: usize = 256;

/// A client's queue. One task takes from it; all others only put in.
#[derive(Default)]
pub(super) struct Outbox {
    queues: Mutex<Queues>,
    filled: Notify,
}

#[derive(Default)]
struct Queues {
    notices: VecDeque<Bytes>,
    /// The newest ping that is not answered yet: a client that pings faster than
    /// it reads gets fewer answers.
    pong: Option<[u8; 8]>,
    /// Path discovery has a lane of its own, so that bulk traffic cannot push it out.
    disco: Lane,
    data: Lane,
}

#[derive(Default)]
struct Lane {
    frames: VecDeque<Bytes>,
    bytes: usize,
}

impl Outbox {
    /// Puts a `RecvPacket` frame in; returns how many older packets it pushed out.
    pub(super) fn push_packet(&self, frame: Bytes) -> usize {
        let mut queues = self.lock();
        let lane = if frame::is_disco(&frame) { &mut queues.disco } else { &mut queues.data };
        let dropped = lane.push(frame);
        drop(queues);
        self.filled.notify_one();
        dropped
    }

    /// Puts in a frame about the relay or a peer.
    pub(super) fn push_notice(&self, frame: Bytes) {
        let mut queues = self.lock();
        if queues.notices.len() >= NOTICES {
            queues.notices.pop_front();
        }
        queues.notices.push_back(frame);
        drop(queues);
        self.filled.notify_one();
    }

    /// Asks for an answer to a ping.
    pub(super) fn push_pong(&self, message: [u8; 8]) {
        self.lock().pong = Some(message);
        self.filled.notify_one();
    }

    /// Waits until there is something, and takes all of it, in the order in which
    /// it should be written.
    pub(super) async fn take(&self) -> Vec<Bytes> {
        loop {
            let frames = self.take_now();
            if !frames.is_empty() {
                return frames;
            }
            self.filled.notified().await;
        }
    }

    /// Takes what is there now.
    pub(super) fn take_now(&self) -> Vec<Bytes> {
        let mut queues = self.lock();
        let pong = queues.pong.take().map(|message| frame::frame(kind::PONG, &[&message]));
        let notices = std::mem::take(&mut queues.notices);
        let disco = std::mem::take(&mut queues.disco);
        let data = std::mem::take(&mut queues.data);
        drop(queues);
        notices.into_iter().chain(pong).chain(disco.frames).chain(data.frames).collect()
    }

    /// How many packets wait.
    pub(super) fn len(&self) -> usize {
        let queues = self.lock();
        queues.disco.frames.len() + queues.data.frames.len()
    }

    fn lock(&self) -> MutexGuard<'_, Queues> {
        // Each change is complete before anything can panic.
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lane {
    fn push(&mut self, frame: Bytes) -> usize {
        self.bytes += frame.len();
        self.frames.push_back(frame);
        let mut dropped = 0;
        while self.frames.len() > LANE_PACKETS || (self.bytes > LANE_BYTES && self.frames.len() > 1) {
            let Some(oldest) = self.frames.pop_front() else { break };
            self.bytes -= oldest.len();
            dropped += 1;
        }
        dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(number: u8, len: usize) -> Bytes {
        frame::frame(kind::RECV_PACKET, &[&[0; 32], &vec![number; len]])
    }

    #[test]
    fn a_full_lane_drops_its_oldest_packets() {
        let outbox = Outbox::default();
        let dropped: usize = (0..40).map(|n| outbox.push_packet(packet(n, 100))).sum();
        assert_eq!(dropped, 8);
        let left = outbox.take_now();
        assert_eq!(left.len(), LANE_PACKETS);
        assert_eq!(left[0], packet(8, 100));
        assert_eq!(left[31], packet(39, 100));
    }

    #[test]
    fn large_packets_are_bounded_by_their_bytes() {
        let outbox = Outbox::default();
        for n in 0..32 {
            outbox.push_packet(packet(n, frame::MAX_PACKET));
        }
        let bytes: usize = outbox.take_now().iter().map(Bytes::len).sum();
        assert!(bytes <= LANE_BYTES, "{bytes}");
    }

    #[test]
    fn bulk_traffic_does_not_push_out_discovery() {
        let outbox = Outbox::default();
        let disco = frame::frame(kind::RECV_PACKET, &[&[0; 32], "TS💬".as_bytes(), &[0; 56]]);
        outbox.push_packet(disco.clone());
        for n in 0..100 {
            outbox.push_packet(packet(n, 100));
        }
        assert_eq!(outbox.take_now()[0], disco);
    }

    #[test]
    fn notices_are_bounded() {
        let outbox = Outbox::default();
        for n in 0..1000u32 {
            outbox.push_notice(frame::health(&n.to_string()));
        }
        let left = outbox.take_now();
        assert_eq!(left.len(), NOTICES);
        assert_eq!(left[NOTICES - 1], frame::health("999"));
    }
}
