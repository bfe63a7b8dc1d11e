//! Whatever strangers and clients send to the relay and to STUN.

use super::{frame, handshake, stun};
use crate::fuzzing::{Bent, bent};
use crate::tailcfg::{NodeKey, PrivateKey};
use std::io::Cursor;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn fuzz_derp_frames() {
    let client = NodeKey([7; 32]);
    let good = [
        [
            frame::frame(frame::kind::SEND_PACKET, &[&[8; 32], b"a packet"]).to_vec(),
            frame::frame(frame::kind::PING, &[&[1; 8]]).to_vec(),
        ]
        .concat(),
        [
            frame::frame(frame::kind::NOTE_PREFERRED, &[&[1]]).to_vec(),
            frame::frame(frame::kind::PONG, &[&[1; 8]]).to_vec(),
            frame::frame(0x77, &[&[0; 100]]).to_vec(),
        ]
        .concat(),
    ];
    let runtime = runtime();
    bolero::check!().with_type::<Bent>().for_each(|input| {
        let bytes = bent(&good, input);
        let frames = bytes.len();
        let mut reader = Cursor::new(bytes);
        runtime.block_on(async {
            // Every frame takes at least its header.
            for _ in 0..=frames {
                if !matches!(frame::read(&mut reader, &client).await, Ok(Some(_))) {
                    return;
                }
            }
            panic!("more frames than bytes");
        });
    });
}

#[test]
fn fuzz_derp_handshakes() {
    let (relay, client) = (PrivateKey::generate(), PrivateKey::generate());
    let sealed = handshake::seal(&client, &NodeKey(relay.public()), br#"{"version":2,"CanAckPings":true}"#);
    let good = [frame::frame(frame::kind::CLIENT_INFO, &[&client.public(), &sealed]).to_vec()];
    let runtime = runtime();
    bolero::check!().with_type::<Bent>().for_each(|input| {
        let bytes = bent(&good, input);
        let is_good = bytes.starts_with(&good[0]);
        let known = runtime.block_on(handshake::identify(&relay, &mut Cursor::new(bytes), &mut tokio::io::sink()));
        assert_eq!(known.is_ok(), is_good, "nobody else's key is accepted");
    });
}

#[test]
fn fuzz_stun() {
    let good = [stun::tests::client_request(&[9; 12]), vec![0; 40]];
    bolero::check!().with_type::<Bent>().for_each(|input| {
        let _ = stun::parse_request(&bent(&good, input));
    });
}
