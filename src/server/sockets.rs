//! The sockets that a replica listens on, apart from the one for its peers.

use super::door::Door;
use super::tls_files::TlsReload;
use super::{Routers, StartError, listen, relay};
use crate::config::{Config, RelayListener};
use crate::derp;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use tokio::net::{TcpListener, UdpSocket, UnixListener};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// All of them, bound.
pub struct Sockets {
    public: TcpListener,
    public_tls: Option<TlsAcceptor>,
    /// What `public_tls` shows.
    pub certificate: Option<TlsReload>,
    admin: UnixListener,
    metrics: Option<TcpListener>,
    relay: Option<TcpListener>,
    stun: Option<UdpSocket>,
}

impl Sockets {
    /// Binds them, so that a port that is taken is told at once, by the key that names it.
    pub async fn open(config: &Config) -> Result<Self, StartError> {
        let section = config.derp.server.as_ref();
        let relay = section.and_then(|s| match s.listener {
            RelayListener::Main => None,
            RelayListener::Own(addr) => Some(addr),
        });
        let certificate = config.tls.as_ref().map(TlsReload::open).transpose()?;
        Ok(Self {
            public: tcp("listen_addr", config.listen_addr).await?,
            public_tls: certificate.as_ref().map(TlsReload::acceptor).transpose()?,
            certificate,
            admin: admin(&config.unix_socket, config.unix_socket_permission)?,
            metrics: match config.metrics_listen_addr {
                Some(addr) => Some(tcp("metrics_listen_addr", addr).await?),
                None => None,
            },
            relay: match relay {
                Some(addr) => Some(tcp("derp.server.listen_addr", addr).await?),
                None => None,
            },
            stun: match section.and_then(|s| s.stun_listen_addr) {
                Some(addr) => Some(udp("derp.server.stun_listen_addr", addr).await?),
                None => None,
            },
        })
    }

    /// Serves on each of them until `stop`.
    /// Each listener of TCP gets a door of its own from `door`.
    pub fn serve(
        self,
        routers: Routers,
        relay: Option<relay::Parts>,
        door: impl Fn() -> Door,
        stop: &CancellationToken,
    ) {
        tokio::spawn(listen::tcp(self.public, self.public_tls, routers.public, door(), stop.clone()));
        tokio::spawn(listen::unix(self.admin, routers.socket, stop.clone()));
        if let Some(listener) = self.metrics {
            tokio::spawn(listen::tcp(listener, None, routers.metrics, door(), stop.clone()));
        }
        if let (Some(listener), Some(parts)) = (self.relay, relay)
            && let Some(tls) = parts.listener.clone()
        {
            let router = parts.router();
            tokio::spawn(derp::serve_relay(listener, tls, parts.relay, router));
        }
        if let Some(socket) = self.stun {
            let stop = stop.clone();
            tokio::spawn(async move {
                tokio::select! {
                    () = derp::serve_stun(socket) => {}
                    () = stop.cancelled() => {}
                }
            });
        }
    }
}

async fn tcp(key: &str, addr: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(addr).await.map_err(|e| taken(key, addr, e))
}

async fn udp(key: &str, addr: SocketAddr) -> Result<UdpSocket, StartError> {
    UdpSocket::bind(addr).await.map_err(|e| taken(key, addr, e))
}

fn taken(key: &str, addr: SocketAddr, error: std::io::Error) -> StartError {
    let hint = match error.kind() {
        std::io::ErrorKind::AddrInUse => "; another program has it: stop that, or choose another port",
        std::io::ErrorKind::AddrNotAvailable => "; this machine does not have the address",
        std::io::ErrorKind::PermissionDenied => "; ports below 1024 need root or CAP_NET_BIND_SERVICE",
        _ => "",
    };
    StartError::new(format!("{key} {addr}"), format!("{error}{hint}"))
}

/// A socket file that a process left behind is no error; one that somebody serves is.
fn admin(path: &Path, permission: u32) -> Result<UnixListener, StartError> {
    let failed = |e: std::io::Error| StartError::new(format!("unix_socket {}", path.display()), e);
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(StartError::new(
            format!("unix_socket {}", path.display()),
            "a running server answers there already: stop it, or choose another path",
        ));
    }
    // Made beside and moved there, so that it has its permission from the first moment, and a
    // server that starts at the same time does not take away what this one has made.
    let new = path.with_file_name(format!(".{}", std::process::id()));
    match std::fs::remove_file(&new) {
        Ok(()) => {}
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(failed(e)),
    }
    let listener = UnixListener::bind(&new).map_err(failed)?;
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(permission)).map_err(failed)?;
    std::fs::rename(&new, path).map_err(failed)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[tokio::test]
    async fn the_socket_of_a_newer_server_stays_when_an_older_one_of_the_same_path_ends() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/server.sock");
        let make_directory = || std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        make_directory();
        let older = admin(&path, 0o600).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let refused = admin(&path, 0o600).unwrap_err().to_string();
        assert!(refused.contains("a running server answers there already"), "{refused}");
        // Somebody makes the directory anew while the older one still stops.
        std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
        make_directory();
        let newer = admin(&path, 0o660).unwrap();
        drop(older);
        assert!(UnixStream::connect(&path).is_ok());
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o660);
        // What one that ended left behind is in nobody's way, and nothing else is left.
        drop(newer);
        let _last = admin(&path, 0o600).unwrap();
        assert!(UnixStream::connect(&path).is_ok());
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }
}
