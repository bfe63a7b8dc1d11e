//! STUN: tells a client the address that its packets come from. Only the requests
//! that Tailscale clients make are answered. (Protocol section 8.5, RFC 8489.)

use metrics::{Counter, counter, describe_counter};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::net::UdpSocket;

const HEADER_LEN: usize = 20;
const BINDING_REQUEST: [u8; 2] = [0x00, 0x01];
const BINDING_SUCCESS: [u8; 2] = [0x01, 0x01];
const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const SOFTWARE: u16 = 0x8022;
const FINGERPRINT: u16 = 0x8028;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
/// What Tailscale clients call themselves in [`SOFTWARE`].
const CLIENT_SOFTWARE: &[u8] = b"tailnode";
/// The fingerprint attribute, header and all.
const FINGERPRINT_LEN: usize = 8;
const FINGERPRINT_XOR: u32 = 0x5354_554e;
/// A request has 40 bytes; what does not fit is none.
const MAX_REQUEST: usize = 512;
/// After an error of the socket, so that the loop does not spin.
const ERROR_PAUSE: Duration = Duration::from_millis(50);

type TransactionId = [u8; 12];

/// Answers on the socket, for as long as it is polled. It keeps nothing, sends one
/// packet for one, and never a longer one than 44 bytes for at least 40, so it is of
/// no use for reflection.
pub async fn serve_stun(socket: UdpSocket) {
    let counters = Counters::new();
    let mut buffer = [0; MAX_REQUEST + 1];
    loop {
        let (len, from) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(e) => {
                tracing::debug!("stun: receiving: {e}");
                tokio::time::sleep(ERROR_PAUSE).await;
                continue;
            }
        };
        let Some(transaction) = parse_request(&buffer[..len]) else {
            counters.ignored.increment(1);
            continue;
        };
        let from = SocketAddr::new(from.ip().to_canonical(), from.port());
        let counter = if from.is_ipv4() { &counters.ipv4 } else { &counters.ipv6 };
        counter.increment(1);
        if let Err(e) = socket.send_to(&response(&transaction, from), reply_addr(&socket, from)).await {
            tracing::debug!(%from, "stun: answering: {e}");
        }
    }
}

/// An IPv6 socket reaches an IPv4 client under its mapped address.
fn reply_addr(socket: &UdpSocket, to: SocketAddr) -> SocketAddr {
    let is_v6_socket = socket.local_addr().is_ok_and(|local| local.is_ipv6());
    match to.ip() {
        IpAddr::V4(ip) if is_v6_socket => SocketAddr::new(ip.to_ipv6_mapped().into(), to.port()),
        _ => to,
    }
}

struct Counters {
    ipv4: Counter,
    ipv6: Counter,
    ignored: Counter,
}

impl Counters {
    fn new() -> Self {
        describe_counter!(
            "quorumscale_stun_requests_total",
            "STUN requests that were answered, by the client's family."
        );
        describe_counter!("quorumscale_stun_ignored_total", "UDP packets that were not a Tailscale client's request.");
        Self {
            ipv4: counter!("quorumscale_stun_requests_total", "family" => "ipv4"),
            ipv6: counter!("quorumscale_stun_requests_total", "family" => "ipv6"),
            ignored: counter!("quorumscale_stun_ignored_total"),
        }
    }
}

/// The transaction id of a binding request by a Tailscale client: `SOFTWARE` is theirs,
/// and a correct `FINGERPRINT` is the last attribute.
pub(super) fn parse_request(packet: &[u8]) -> Option<TransactionId> {
    if packet.len() > MAX_REQUEST {
        return None;
    }
    let (header, mut attributes) = packet.split_first_chunk::<HEADER_LEN>()?;
    let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if header[..2] != BINDING_REQUEST || header[4..8] != MAGIC_COOKIE || length != attributes.len() {
        return None;
    }
    let mut is_client = false;
    let mut last = None;
    while !attributes.is_empty() {
        let (kind, value, rest) = next_attribute(attributes)?;
        is_client |= kind == SOFTWARE && value == CLIENT_SOFTWARE;
        last = Some((kind, value));
        attributes = rest;
    }
    let (FINGERPRINT, value) = last? else { return None };
    let claimed = u32::from_be_bytes(value.try_into().ok()?);
    let actual = crc32(&packet[..packet.len() - FINGERPRINT_LEN]) ^ FINGERPRINT_XOR;
    if !is_client || claimed != actual {
        return None;
    }
    header[8..].try_into().ok()
}

/// Type, value and what follows; values are padded to four bytes.
fn next_attribute(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let ([k0, k1, l0, l1], bytes) = bytes.split_first_chunk::<4>()?;
    let len = usize::from(u16::from_be_bytes([*l0, *l1]));
    let (padded, rest) = bytes.split_at_checked(len.next_multiple_of(4))?;
    Some((u16::from_be_bytes([*k0, *k1]), &padded[..len], rest))
}

/// A success response that says `addr`, hidden from address translators that replace
/// addresses wherever they see them.
fn response(transaction: &TransactionId, addr: SocketAddr) -> Vec<u8> {
    let (family, ip) = match addr.ip() {
        IpAddr::V4(ip) => (1, ip.octets().to_vec()),
        IpAddr::V6(ip) => (2, ip.octets().to_vec()),
    };
    let mask = [MAGIC_COOKIE.as_slice(), transaction].concat();
    let value_len = 4 + ip.len() as u16;
    let port = addr.port() ^ u16::from_be_bytes([MAGIC_COOKIE[0], MAGIC_COOKIE[1]]);

    let mut packet = Vec::with_capacity(HEADER_LEN + 4 + usize::from(value_len));
    packet.extend(BINDING_SUCCESS);
    packet.extend((4 + value_len).to_be_bytes());
    packet.extend(MAGIC_COOKIE);
    packet.extend(transaction);
    packet.extend(XOR_MAPPED_ADDRESS.to_be_bytes());
    packet.extend(value_len.to_be_bytes());
    packet.extend([0, family]);
    packet.extend(port.to_be_bytes());
    packet.extend(ip.iter().zip(mask).map(|(byte, mask)| byte ^ mask));
    packet
}

/// CRC-32 of ISO 3309, as in Ethernet. Requests are short: bit by bit is fast enough.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// RFC 5769, section 2.
    const RFC_TRANSACTION: TransactionId = [0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae];

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = kind.to_be_bytes().to_vec();
        bytes.extend((value.len() as u16).to_be_bytes());
        bytes.extend(value);
        bytes.resize(4 + value.len().next_multiple_of(4), 0);
        bytes
    }

    /// A request as a client makes it, with these attributes before the fingerprint.
    fn request(transaction: &TransactionId, attributes: &[Vec<u8>]) -> Vec<u8> {
        let attributes = attributes.concat();
        let mut packet = BINDING_REQUEST.to_vec();
        packet.extend(((attributes.len() + FINGERPRINT_LEN) as u16).to_be_bytes());
        packet.extend(MAGIC_COOKIE);
        packet.extend(transaction);
        packet.extend(attributes);
        let fingerprint = crc32(&packet) ^ FINGERPRINT_XOR;
        packet.extend(attribute(FINGERPRINT, &fingerprint.to_be_bytes()));
        packet
    }

    pub(in crate::derp) fn client_request(transaction: &TransactionId) -> Vec<u8> {
        request(transaction, &[attribute(SOFTWARE, CLIENT_SOFTWARE)])
    }

    #[test]
    fn crc32_has_its_check_value() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    /// RFC 5769, section 2.1: the fingerprint over a whole message of another implementation.
    #[test]
    fn the_fingerprint_of_the_rfcs_sample_request_is_the_rfcs() {
        let sample = "000100582112a442b7e7a701bc34d686fa87dfae802200105354554e207465737420636c69656e74\
                      002400046e0001ff80290008932ff9b151263b36000600096576746a3a68367659202020\
                      000800149aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a280280004e57a3bcf";
        let sample = hex::decode(sample).unwrap();
        let (message, fingerprint) = sample.split_at(sample.len() - FINGERPRINT_LEN);
        assert_eq!(fingerprint[4..], (crc32(message) ^ FINGERPRINT_XOR).to_be_bytes());
        assert_eq!(parse_request(&sample), None, "it is not a Tailscale client's");
    }

    /// RFC 5769, sections 2.2 and 2.3: their XOR-MAPPED-ADDRESS attributes.
    #[test]
    fn addresses_are_encoded_as_in_the_rfcs_sample_responses() {
        let v4 = response(&RFC_TRANSACTION, "192.0.2.1:32853".parse().unwrap());
        assert_eq!(hex::encode(&v4[HEADER_LEN..]), "002000080001a147e112a643");
        let v6 = response(&RFC_TRANSACTION, "[2001:db8:1234:5678:11:2233:4455:6677]:32853".parse().unwrap());
        assert_eq!(hex::encode(&v6[HEADER_LEN..]), "002000140002a1470113a9faa5d3f179bc25f4b5bed2b9d9");
        assert_eq!(hex::encode(&v6[..HEADER_LEN]), "010100182112a442b7e7a701bc34d686fa87dfae");
    }

    #[test]
    fn a_clients_request_is_recognised() {
        let packet = client_request(&RFC_TRANSACTION);
        assert_eq!(packet.len(), 40);
        assert_eq!(parse_request(&packet), Some(RFC_TRANSACTION));
    }

    #[test]
    fn anything_else_is_ignored() {
        let good = client_request(&RFC_TRANSACTION);
        for cut in 0..good.len() {
            assert_eq!(parse_request(&good[..cut]), None, "cut at {cut}");
        }
        for index in 0..good.len() {
            let mut flipped = good.clone();
            flipped[index] ^= 1;
            assert_eq!(parse_request(&flipped), None, "byte {index} changed");
        }
        assert_eq!(parse_request(&request(&RFC_TRANSACTION, &[])), None, "no software");
        assert_eq!(parse_request(&request(&RFC_TRANSACTION, &[attribute(SOFTWARE, b"other123")])), None);
        let too_long = vec![attribute(SOFTWARE, CLIENT_SOFTWARE); 60];
        assert_eq!(parse_request(&request(&RFC_TRANSACTION, &too_long)), None, "too long");
    }

    async fn ask(server: SocketAddr, bind: &str) -> (SocketAddr, Vec<u8>) {
        let client = UdpSocket::bind(bind).await.unwrap();
        client.send_to(b"garbage", server).await.unwrap();
        client.send_to(&client_request(&RFC_TRANSACTION), server).await.unwrap();
        let mut buffer = [0; 100];
        let (len, _) =
            tokio::time::timeout(Duration::from_secs(10), client.recv_from(&mut buffer)).await.unwrap().unwrap();
        (client.local_addr().unwrap(), buffer[..len].to_vec())
    }

    #[tokio::test]
    async fn a_client_learns_its_address() {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let server = socket.local_addr().unwrap();
        let _serving = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(serve_stun(socket)));
        let (client, answer) = ask(server, "127.0.0.1:0").await;
        assert_eq!(answer, response(&RFC_TRANSACTION, client));
    }

    #[tokio::test]
    async fn an_ipv4_client_of_an_ipv6_socket_learns_its_ipv4_address() {
        let Ok(socket) = UdpSocket::bind("[::]:0").await else {
            return eprintln!("skipped: this machine has no IPv6");
        };
        let server = SocketAddr::new([127, 0, 0, 1].into(), socket.local_addr().unwrap().port());
        let _serving = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(serve_stun(socket)));
        let (client, answer) = ask(server, "127.0.0.1:0").await;
        assert_eq!(answer, response(&RFC_TRANSACTION, client));
    }
}
