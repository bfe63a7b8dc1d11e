//! Whatever strangers send to the outer endpoints.

use super::noise::Initiator;
use super::noise::{NoiseStream, respond};
use super::testing::{cluster, outer};
use crate::fuzzing::{Bent, bent};
use crate::tailcfg::PrivateKey;
use axum::body::Body;
use base64::Engine;
use http::Request;
use std::io::Cursor;
use tokio::io::AsyncReadExt;
use tower::ServiceExt;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn fuzz_noise_handshakes() {
    let key = PrivateKey::generate();
    let good = [Initiator::new(&PrivateKey::generate(), &key.public(), 142).initiation];
    bolero::check!().with_type::<Bent>().for_each(|input| {
        let initiation = bent(&good, input);
        match respond(&key, &initiation) {
            Ok(_) => assert_eq!(initiation, good[0], "only the frame that was made is accepted"),
            Err(error) => assert!(error.frame().len() < 4096),
        }
    });
}

#[test]
fn fuzz_noise_records() {
    let key = PrivateKey::generate();
    let initiator = Initiator::new(&PrivateKey::generate(), &key.public(), 142);
    let server = respond(&key, &initiator.initiation).unwrap();
    let keys = initiator.finish(&server.response).unwrap();
    let runtime = runtime();
    let text = b"a record of the client's";
    let good = runtime.block_on(async {
        use tokio::io::AsyncWriteExt;
        let mut sent = Vec::new();
        let mut stream = NoiseStream::new(tokio::io::join(tokio::io::empty(), &mut sent), &keys, &[]);
        for _ in 0..3 {
            stream.write_all(text).await.unwrap();
            stream.flush().await.unwrap();
        }
        drop(stream);
        [sent]
    });
    bolero::check!().with_type::<Bent>().for_each(|input| {
        let bytes = bent(&good, input);
        let io = tokio::io::join(Cursor::new(bytes), tokio::io::sink());
        let mut read = Vec::new();
        let _ = runtime.block_on(NoiseStream::new(io, &server.keys, &[]).read_to_end(&mut read));
        assert!(text.repeat(3).starts_with(&read), "nothing is read that was not sent: {read:?}");
    });
}

#[test]
fn fuzz_http_upgrades() {
    let runtime = runtime();
    let _inside = runtime.enter();
    let cluster = cluster();
    let key = cluster.noise_key().unwrap().public();
    let initiation = Initiator::new(&PrivateKey::generate(), &key, 142).initiation;
    let handshake = base64::engine::general_purpose::STANDARD.encode(initiation);
    let good = [
        format!("tailscale-control-protocol|{handshake}|").into_bytes(),
        format!("websocket||X-Tailscale-Handshake={}", handshake.replace('+', "%2B")).into_bytes(),
        b"||v=142".to_vec(),
    ];
    // It is cloned for each request; what a panic leaves of it is not used.
    let app = std::panic::AssertUnwindSafe(outer(cluster));
    bolero::check!().with_type::<Bent>().for_each(|input| {
        let app = &app;
        let bytes = bent(&good, input);
        let mut parts = bytes.splitn(3, |byte| *byte == b'|');
        let mut part = || parts.next().unwrap_or_default();
        let (protocol, header, query) = (part(), part(), String::from_utf8_lossy(part()));
        for path in ["/ts2021", "/key"] {
            let request = Request::builder().method("GET").uri(format!("{path}?{query}"));
            let request = request.header("upgrade", protocol).header("connection", "upgrade");
            let request = request.header("x-tailscale-handshake", header);
            // What hyper would refuse never gets there.
            let Ok(request) = request.body(Body::empty()) else { continue };
            let status = runtime.block_on(app.0.clone().oneshot(request)).unwrap().status();
            assert!(!status.is_server_error(), "{status}: {:?}", String::from_utf8_lossy(&bytes));
        }
    });
}
