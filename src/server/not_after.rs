//! When a certificate ends (RFC 5280, section 4.1).

use crate::state::Time;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// The tags of DER that are on the way.
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// `notAfter` of a certificate in DER; `None`: it is not there, so this is no certificate.
pub fn not_after(certificate: &[u8]) -> Option<Time> {
    let (_, certificate, _) = element(certificate)?;
    let (_, mut rest, _) = element(certificate)?;
    // version, serialNumber, signature, issuer; the first may be left out.
    let before = if *rest.first()? == VERSION { 4 } else { 3 };
    for _ in 0..before {
        rest = element(rest)?.2;
    }
    let (tag, validity, _) = element(rest)?;
    let (_, _, rest) = element(validity)?;
    let (kind, text, _) = element(rest)?;
    if tag != SEQUENCE {
        return None;
    }
    time(kind, std::str::from_utf8(text).ok()?)
}

/// The first element's tag and content, and what follows it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, first], rest) = der.split_first_chunk::<2>()?;
    let (length, rest) = match first {
        0..=127 => (usize::from(first), rest),
        // More bytes of length than a certificate of some megabytes needs are none.
        129..=131 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first - 128))?;
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

fn time(kind: u8, text: &str) -> Option<Time> {
    let full = match kind {
        UTC_TIME if text.get(..2)? < "50" => format!("20{text}"),
        UTC_TIME => format!("19{text}"),
        GENERALIZED_TIME => text.to_owned(),
        _ => return None,
    };
    let time = DateTime::strptime("%Y%m%d%H%M%S", full.strip_suffix('Z')?).ok()?;
    TimeZone::UTC.to_timestamp(time).ok().map(Time::from_jiff)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(year: i32) -> Option<String> {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(["hs.example.com".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 2, 3);
        let certificate = params.self_signed(&key).unwrap();
        Some(not_after(certificate.der())?.to_string())
    }

    #[test]
    fn the_end_of_a_certificate_is_read_in_both_forms() {
        assert_eq!(ends(2031).as_deref(), Some("2031-02-03T00:00:00Z"));
        assert_eq!(ends(2055).as_deref(), Some("2055-02-03T00:00:00Z"));
    }

    #[test]
    fn what_is_no_certificate_has_no_end() {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(["hs.example.com".to_owned()]).unwrap();
        let der = params.self_signed(&key).unwrap().der().to_vec();
        for length in 0..120 {
            assert_eq!(not_after(&der[..length]), None, "{length} bytes of it");
        }
        assert_eq!(not_after(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]), None);
    }
}
