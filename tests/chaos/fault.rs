//! What can be done to the replicas.

use crate::sandbox::Means;

macro_rules! faults {
    ($($variant:ident = $name:literal,)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Fault { $($variant,)* }

        impl Fault {
            pub const ALL: &[Fault] = &[$(Fault::$variant,)*];

            pub fn name(self) -> &'static str {
                match self { $(Fault::$variant => $name,)* }
            }
        }
    };
}

faults! {
    KillLeader = "SIGKILL the leader",
    KillFollower = "SIGKILL a follower",
    PauseLeader = "SIGSTOP the leader",
    PauseFollower = "SIGSTOP a follower",
    IsolateLeader = "cut off the leader",
    IsolateFollower = "cut off a follower",
    DeafLeader = "nothing reaches the leader",
    DeafFollower = "nothing reaches a follower",
    MuteLeader = "nothing leaves the leader",
    MuteFollower = "nothing leaves a follower",
    ClosePort = "nobody can dial the leader",
    Bridge = "a bridge: A-B, B-C, not A-C",
    Flap = "a follower comes and goes",
    SlowLinks = "slow links",
    LossyLinks = "lossy links",
    SlowDiskLeader = "slow disk of the leader",
    SlowDiskFollower = "slow disk of a follower",
    FullDiskLeader = "full disk of the leader",
    FullDiskFollower = "full disk of a follower",
    ClockLeader = "the leader's clock jumps",
    ClockFollower = "a follower's clock jumps",
    Transfer = "transfer the lead",
    RollingRestart = "rolling restart, SIGTERM",
    Members = "add, promote, remove a member",
    MembersKill = "... while the leader is killed",
    MembersLossy = "... over lossy links",
    KillAll = "SIGKILL all",
    StopAll = "SIGTERM all, one by one",
    LoseQuorum = "SIGKILL a majority",
}

impl Fault {
    pub fn is_possible(self, means: &Means) -> bool {
        use Fault::*;
        match self {
            IsolateLeader | IsolateFollower | DeafLeader | DeafFollower | MuteLeader | MuteFollower | ClosePort
            | Bridge | Flap | SlowLinks | LossyLinks | MembersLossy => means.network,
            SlowDiskLeader | SlowDiskFollower | FullDiskLeader | FullDiskFollower => means.disks,
            ClockLeader | ClockFollower => means.clocks,
            _ => true,
        }
    }

    /// Whether it is done to the leader.
    pub fn is_of_the_leader(self) -> bool {
        use Fault::*;
        matches!(
            self,
            KillLeader
                | PauseLeader
                | IsolateLeader
                | DeafLeader
                | MuteLeader
                | ClosePort
                | SlowDiskLeader
                | FullDiskLeader
                | ClockLeader
                | MembersKill
        )
    }

    /// Whether writes must stop while it lasts.
    pub fn takes_the_quorum(self) -> bool {
        matches!(self, Fault::KillAll | Fault::StopAll | Fault::LoseQuorum)
    }

    /// Whether streams of all replicas may end.
    pub fn is_of_all(self) -> bool {
        use Fault::*;
        // Whoever does not reach the leader can promise nothing.
        matches!(
            self,
            RollingRestart
                | KillAll
                | StopAll
                | LoseQuorum
                | ClosePort
                | SlowLinks
                | LossyLinks
                | MembersLossy
                | Bridge
        )
    }

    /// Whether no stream of any replica may end.
    pub fn is_of_nobody(self) -> bool {
        use Fault::*;
        matches!(self, Transfer | Members | ClockLeader | ClockFollower)
    }
}
