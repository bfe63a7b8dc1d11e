//! The relays that clients may use (protocol section 6.7).

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// `tailcfg.DERPMap`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DerpMap {
    pub regions: BTreeMap<u32, DerpRegion>,
    #[serde(rename = "omitDefaultRegions", skip_serializing_if = "std::ops::Not::not")]
    pub omit_default_regions: bool,
}

/// `tailcfg.DERPRegion`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DerpRegion {
    #[serde(rename = "RegionID")]
    pub region_id: u32,
    #[serde(rename = "RegionCode")]
    pub region_code: String,
    #[serde(rename = "RegionName")]
    pub region_name: String,
    #[serde(rename = "Latitude", skip_serializing_if = "is_zero_f64")]
    pub latitude: f64,
    #[serde(rename = "Longitude", skip_serializing_if = "is_zero_f64")]
    pub longitude: f64,
    #[serde(rename = "Avoid", skip_serializing_if = "std::ops::Not::not")]
    pub avoid: bool,
    #[serde(rename = "NoMeasureNoHome", skip_serializing_if = "std::ops::Not::not")]
    pub no_measure_no_home: bool,
    #[serde(rename = "Nodes")]
    pub nodes: Vec<DerpNode>,
}

/// `tailcfg.DERPNode`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DerpNode {
    #[serde(rename = "Name")]
    pub name: String,
    #[serde(rename = "RegionID")]
    pub region_id: u32,
    #[serde(rename = "HostName")]
    pub host_name: String,
    #[serde(rename = "CertName", skip_serializing_if = "String::is_empty")]
    pub cert_name: String,
    #[serde(rename = "IPv4", skip_serializing_if = "String::is_empty")]
    pub ipv4: String,
    #[serde(rename = "IPv6", skip_serializing_if = "String::is_empty")]
    pub ipv6: String,
    /// 0: the default, 3478; -1: none.
    #[serde(rename = "STUNPort", skip_serializing_if = "is_zero_i32")]
    pub stun_port: i32,
    #[serde(rename = "STUNOnly", skip_serializing_if = "std::ops::Not::not")]
    pub stun_only: bool,
    /// 0: the default, 443.
    #[serde(rename = "DERPPort", skip_serializing_if = "is_zero_u16")]
    pub derp_port: u16,
    #[serde(rename = "InsecureForTests", skip_serializing_if = "std::ops::Not::not")]
    pub insecure_for_tests: bool,
    #[serde(rename = "CanPort80", skip_serializing_if = "std::ops::Not::not")]
    pub can_port_80: bool,
}

fn is_zero_f64(n: &f64) -> bool {
    *n == 0.0
}

fn is_zero_i32(n: &i32) -> bool {
    *n == 0
}

fn is_zero_u16(n: &u16) -> bool {
    *n == 0
}
