//! The two ends of a call between simulated replicas: what tonic sees in place of a
//! connection. Messages are encoded, checked and decoded as they are in production.

use super::net::{CallId, Lane, MachineId, Net, What};
use crate::cluster::peer::{Checker, PeerInfo, Server};
use crate::cluster::wire::peer_server::PeerServer;
use crate::state::ReplicaId;
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http_body_util::BodyExt;
use hyper::body::Frame;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tonic::body::Body;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tower::Service;

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Answer = Result<http::Response<Body>, BoxError>;

/// Hears how an attempt to connect went.
pub type Note = Arc<dyn Fn(Option<&io::Error>) + Send + Sync>;

/// A connection: over real sockets, or simulated.
#[derive(Clone)]
pub enum Transport {
    Real(Channel),
    Simulated(Line),
}

/// A simulated way to one replica.
#[derive(Clone)]
pub struct Line {
    net: Net,
    from: MachineId,
    to: MachineId,
    note: Note,
}

/// Makes lines for one machine.
pub struct Dialer {
    pub net: Net,
    pub from: MachineId,
}

impl Dialer {
    /// Addresses are `rN:1`: the machine's number decides.
    pub fn dial(
        &self,
        target: ReplicaId,
        address: String,
        note: impl Fn(Option<&io::Error>) + Send + Sync + 'static,
    ) -> Transport {
        let to = address.trim_start_matches('r').trim_end_matches(":1").parse().unwrap_or(target.0);
        Transport::Simulated(Line { net: self.net.clone(), from: self.from, to, note: Arc::new(note) })
    }
}

impl Service<http::Request<Body>> for Transport {
    type Response = http::Response<Body>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Answer>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        match self {
            Self::Real(channel) => channel.poll_ready(context).map_err(Into::into),
            Self::Simulated(_) => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        match self {
            Self::Real(channel) => channel.call(request).map(|answer| answer.map_err(Into::into)).boxed(),
            Self::Simulated(line) => line.call(request).boxed(),
        }
    }
}

impl Line {
    fn call(&self, request: http::Request<Body>) -> impl Future<Output = Answer> + use<> {
        let (parts, body) = request.into_parts();
        let (head, answered) = oneshot::channel();
        let (frames, arriving) = mpsc::unbounded_channel();
        let end = ClientEnd { head: Some(head), body: frames, note: self.note.clone() };
        let call = self.net.begin(self.from, self.to, parts, end);
        let upload = tokio::spawn(pump(self.net.clone(), call, Lane::ToServer, body)).abort_handle();
        let open = Open { net: self.net.clone(), call, upload };
        async move {
            let parts = answered.await.unwrap_or_else(|_| Err(broken().into()))?;
            Ok(http::Response::from_parts(parts, Body::new(Arriving { frames: arriving, _open: Some(open) })))
        }
    }
}

/// Why a call ended without an answer.
pub fn broken() -> tonic::Status {
    tonic::Status::unknown("the connection broke")
}

/// Sends a body's frames, as they come.
async fn pump(net: Net, call: CallId, lane: Lane, mut body: Body) {
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => net.send(call, lane, What::Frame(frame)),
            Err(_) => return net.send(call, lane, What::Reset),
        }
    }
    net.send(call, lane, What::End);
}

/// The caller still wants the answer.
struct Open {
    net: Net,
    call: CallId,
    upload: AbortHandle,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.upload.abort();
        self.net.hang_up(self.call);
    }
}

/// What the network gives to the caller.
pub struct ClientEnd {
    pub head: Option<oneshot::Sender<Result<http::response::Parts, BoxError>>>,
    pub body: mpsc::UnboundedSender<Result<Frame<Bytes>, tonic::Status>>,
    pub note: Note,
}

impl ClientEnd {
    /// The call failed before it was sent.
    pub fn fail_to_connect(&mut self, error: io::Error) {
        (self.note)(Some(&error));
        if let Some(head) = self.head.take() {
            let _ = head.send(Err(tonic::ConnectError(error.into()).into()));
        }
    }

    /// The call failed, nobody knows when.
    pub fn fail(&mut self) {
        match self.head.take() {
            Some(head) => drop(head.send(Err(broken().into()))),
            None => drop(self.body.send(Err(broken()))),
        }
    }
}

/// What the network gives to the one who is called.
pub struct ServerEnd {
    pub body: mpsc::UnboundedSender<Result<Frame<Bytes>, tonic::Status>>,
    task: AbortHandle,
}

impl ServerEnd {
    pub fn fail(&self) {
        let _ = self.body.send(Err(broken()));
        self.task.abort();
    }
}

/// A body whose frames come over the network.
struct Arriving {
    frames: mpsc::UnboundedReceiver<Result<Frame<Bytes>, tonic::Status>>,
    _open: Option<Open>,
}

impl hyper::body::Body for Arriving {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        self.frames.poll_recv(context)
    }
}

/// What a replica answers its peers with.
#[derive(Clone)]
pub struct Port {
    pub service: InterceptedService<PeerServer<Server>, Checker>,
    pub net: Net,
    pub runtime: tokio::runtime::Handle,
}

impl Port {
    /// Takes a call from a peer that has this certificate.
    pub fn accept(&self, call: CallId, mut parts: http::request::Parts, peer: PeerInfo) -> ServerEnd {
        let (body, frames) = mpsc::unbounded_channel();
        parts.extensions.insert(peer);
        let request = http::Request::from_parts(parts, Body::new(Arriving { frames, _open: None }));
        let (mut service, net) = (self.service.clone(), self.net.clone());
        let task = self.runtime.spawn(async move {
            match service.call(request).await {
                Ok(response) => {
                    let (parts, body) = response.into_parts();
                    net.send(call, Lane::ToClient, What::Response(Box::new(parts)));
                    pump(net, call, Lane::ToClient, Body::new(body)).await;
                }
                Err(never) => match never {},
            }
        });
        ServerEnd { body, task: task.abort_handle() }
    }
}
