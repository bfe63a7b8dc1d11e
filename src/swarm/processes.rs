//! What processes use, from `/proc`.

use super::report::Usage;
use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A processor's time is counted in hundredths of a second, whatever the machine.
const TICKS: f64 = 100.0;

/// What each of some processes has used so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Used(BTreeMap<u32, One>);

#[derive(Clone, Copy, Debug)]
struct One {
    cpu_s: f64,
    rss_mib: f64,
}

impl Used {
    /// Those of them that are there.
    pub fn by(pids: &[u32]) -> Self {
        Self(pids.iter().filter_map(|pid| Some((*pid, one(*pid)?))).collect())
    }

    /// The sum; `None`: none of them is there.
    pub fn usage(&self) -> Option<Usage> {
        let sum = |part: fn(&One) -> f64| self.0.values().map(part).sum();
        (!self.0.is_empty()).then(|| Usage { cpu_s: sum(|one| one.cpu_s), rss_mib: sum(|one| one.rss_mib) })
    }

    /// Seconds of processor time since then, of those that are there now.
    pub fn cpu_since(&self, before: &Self) -> Option<f64> {
        let since = |(pid, one): (&u32, &One)| one.cpu_s - before.0.get(pid).map_or(0.0, |before| before.cpu_s);
        (!self.0.is_empty()).then(|| self.0.iter().map(since).sum())
    }
}

/// Seconds of processor time, and MiB of resident memory.
fn one(pid: u32) -> Option<One> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, which may have anything in it, is in parentheses.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at)?.parse::<f64>().ok();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: f64 = rss.split_whitespace().next()?.parse().ok()?;
    Some(One { cpu_s: (ticks(11)? + ticks(12)?) / TICKS, rss_mib: kib / 1024.0 })
}

impl super::Server {
    /// The processes on this machine that listen where these servers are, as far as this
    /// user may see them.
    pub fn processes(servers: &[Self]) -> Vec<u32> {
        let sockets: HashSet<String> = ["tcp", "tcp6"]
            .iter()
            .filter_map(|table| fs::read_to_string(format!("/proc/net/{table}")).ok())
            .flat_map(|table| table.lines().skip(1).filter_map(|line| listener(line, servers)).collect::<Vec<_>>())
            .collect();
        let mut pids: Vec<u32> = fs::read_dir("/proc")
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter(|pid| *pid != std::process::id() && holds(*pid, &sockets))
            .collect();
        pids.sort_unstable();
        pids
    }
}

/// What a listening socket is called among a process's files, if it is one of the servers'.
fn listener(line: &str, servers: &[super::Server]) -> Option<String> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let address = address(fields.get(1)?)?;
    let here = |server: &super::Server| {
        let wanted = server.address();
        wanted.port() == address.port() && (wanted.ip() == address.ip() || address.ip().is_unspecified())
    };
    let listens = *fields.get(3)? == "0A" && servers.iter().any(here);
    listens.then(|| fields.get(9).map(|inode| format!("socket:[{inode}]"))).flatten()
}

/// `0100007F:1F90` is 127.0.0.1:8080: words as the machine holds them.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let words = hex::decode(ip).ok()?;
    let bytes: Vec<u8> = words
        .chunks_exact(4)
        .flat_map(|word| u32::from_be_bytes(word.try_into().unwrap_or_default()).to_ne_bytes())
        .collect();
    let ip: IpAddr = match bytes.len() {
        4 => Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into(),
        _ => Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).to_canonical(),
    };
    Some((ip, u16::from_str_radix(port, 16).ok()?).into())
}

fn holds(pid: u32, sockets: &HashSet<String>) -> bool {
    let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten();
    let mut links = files.filter_map(|file| fs::read_link(file.ok()?.path()).ok());
    links.any(|link| link.to_str().is_some_and(|link| sockets.contains(link)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_something() {
        let used = Used::by(&[std::process::id(), u32::MAX]);
        assert!(used.usage().unwrap().rss_mib > 1.0, "{used:?}");
        assert_eq!(Used::by(&[u32::MAX]).usage(), None);
    }

    #[test]
    fn time_is_that_of_the_processes_that_are_there() {
        let used = |list: &[(u32, f64)]| {
            Used(list.iter().map(|(pid, cpu_s)| (*pid, One { cpu_s: *cpu_s, rss_mib: 1.0 })).collect())
        };
        let before = used(&[(1, 5.0), (2, 7.0)]);
        assert_eq!(used(&[(2, 8.0), (3, 0.5)]).cpu_since(&before), Some(1.5));
        assert_eq!(used(&[]).cpu_since(&before), None);
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn addresses_are_read_as_the_kernel_prints_them() {
        assert_eq!(address("0100007F:1F90"), Some("127.0.0.1:8080".parse().unwrap()));
        let mapped = "0000000000000000FFFF00000100007F:0050";
        assert_eq!(address(mapped), Some("127.0.0.1:80".parse().unwrap()));
        assert_eq!(address("nonsense"), None);
    }
}
