//! What goes wrong, and when.

use super::net::{MS, MachineId, Weather};
use rand::RngExt;
use rand::rngs::StdRng;
use std::collections::BTreeSet;
use std::time::Duration;

/// A fault, or the end of one.
#[derive(Clone, Debug)]
pub enum Fault {
    /// SIGKILL: the kernel keeps what was written.
    Kill(MachineId),
    /// What was not synced is gone, from some point on.
    LosePower(Vec<MachineId>),
    Start(MachineId),
    /// SIGSTOP, SIGCONT.
    Freeze(MachineId),
    Thaw(MachineId),
    /// SIGTERM.
    Stop(MachineId),
    /// Nothing gets from the first of each pair to the second.
    Cut(u64, BTreeSet<(MachineId, MachineId)>),
    Heal(u64),
    Weather(Weather),
    SlowDisk(MachineId),
    QuickDisk(MachineId),
    /// Its clock is wrong by that many nanoseconds from now on.
    Skew(MachineId, i64),
    Transfer,
    Snapshot(MachineId),
    /// A new machine joins, as a learner and then a voter.
    Join,
    /// A voter leaves for good.
    Remove(MachineId),
}

/// Chooses faults, one after the other.
pub struct Nemesis {
    rng: StdRng,
    cuts: u64,
}

impl Nemesis {
    pub fn new(rng: StdRng) -> Self {
        Self { rng, cuts: 0 }
    }

    /// How long the cluster has until the next fault.
    pub fn pause(&mut self) -> u64 {
        self.rng.random_range(100 * MS..2_500 * MS)
    }

    fn for_a_while(&mut self) -> u64 {
        match self.rng.random_range(0..3) {
            0 => self.rng.random_range(50 * MS..500 * MS),
            1 => self.rng.random_range(500 * MS..2_500 * MS),
            _ => self.rng.random_range(2_500 * MS..9_000 * MS),
        }
    }

    /// A fault for one of these machines, and what ends it after a while.
    pub fn choose(&mut self, machines: &[MachineId]) -> (Fault, Option<(u64, Fault)>) {
        let one = machines[self.rng.random_range(0..machines.len())];
        let after = self.for_a_while();
        let (fault, end) = match self.rng.random_range(0..100) {
            0..14 => (Fault::Kill(one), Some(Fault::Start(one))),
            14..26 => (Fault::LosePower(vec![one]), Some(Fault::Start(one))),
            26..32 => (Fault::LosePower(machines.to_vec()), None),
            32..37 => (Fault::LosePower(self.some(machines)), None),
            37..49 => (Fault::Freeze(one), Some(Fault::Thaw(one))),
            49..69 => {
                self.cuts += 1;
                (Fault::Cut(self.cuts, self.cut(machines, one)), Some(Fault::Heal(self.cuts)))
            }
            69..74 => (Fault::Weather(self.bad_weather()), Some(Fault::Weather(Weather::FAIR))),
            74..79 => (Fault::SlowDisk(one), Some(Fault::QuickDisk(one))),
            79..83 => (Fault::Stop(one), None),
            83..88 => (Fault::Transfer, None),
            88..91 => (Fault::Snapshot(one), None),
            91..95 => {
                let seconds = [-3600, -30, -1, 0, 1, 30, 3600][self.rng.random_range(0..7)];
                (Fault::Skew(one, seconds * 1000 * MS.cast_signed()), None)
            }
            95..98 => (Fault::Join, None),
            _ => (Fault::Remove(one), None),
        };
        (fault, end.map(|end| (after, end)))
    }

    fn some(&mut self, machines: &[MachineId]) -> Vec<MachineId> {
        machines.iter().copied().filter(|_| self.rng.random_bool(0.6)).collect()
    }

    /// Which ways are cut.
    fn cut(&mut self, machines: &[MachineId], one: MachineId) -> BTreeSet<(MachineId, MachineId)> {
        let others = || machines.iter().copied().filter(move |other| *other != one);
        let mut half: BTreeSet<MachineId> = BTreeSet::new();
        for machine in machines {
            if self.rng.random_bool(0.5) {
                half.insert(*machine);
            }
        }
        let pairs = || machines.iter().flat_map(|a| machines.iter().map(move |b| (*a, *b)));
        match self.rng.random_range(0..6) {
            // Alone; deaf; mute.
            0 => others().flat_map(|other| [(one, other), (other, one)]).collect(),
            1 => others().map(|other| (other, one)).collect(),
            2 => others().map(|other| (one, other)).collect(),
            // Two halves.
            3 => pairs().filter(|(a, b)| half.contains(a) != half.contains(b)).collect(),
            // Two halves, and one that reaches both.
            4 => {
                let apart = |(a, b): &(MachineId, MachineId)| half.contains(a) != half.contains(b);
                pairs().filter(|pair| pair.0 != one && pair.1 != one && apart(pair)).collect()
            }
            // Some ways, at random.
            _ => pairs().filter(|(a, b)| a != b && self.rng.random_bool(0.4)).collect(),
        }
    }

    fn bad_weather(&mut self) -> Weather {
        let slowest = self.rng.random_range(20 * MS..400 * MS);
        Weather { latency: (MS, slowest), lost_of: self.rng.random_bool(0.7).then(|| self.rng.random_range(10..200)) }
    }

    /// How many of the batches that a failure may take are left.
    pub fn kept(&mut self, unsynced: usize) -> usize {
        self.rng.random_range(0..=unsynced)
    }

    /// How long a machine is down that comes back by itself.
    pub fn down(&mut self) -> u64 {
        self.for_a_while()
    }

    /// How long syncs take on a slow disk: usually, and now and then.
    pub fn slow(&mut self) -> (Duration, Duration) {
        let usual = self.rng.random_range(5..150);
        (Duration::from_millis(usual), Duration::from_millis(self.rng.random_range(usual..3000)))
    }
}
