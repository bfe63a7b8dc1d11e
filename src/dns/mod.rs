//! The DNS configuration that clients get (protocol section 6.6).

/// The `dns:` section of the configuration, with the extra records read from their file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DnsSettings {
    pub magic_dns: bool,
    pub override_local_dns: bool,
    /// IP addresses or DoH URLs.
    pub nameservers: Vec<String>,
    /// Domain and its name servers, in the order of the file.
    pub split: Vec<(String, Vec<String>)>,
    /// Without the base domain, which always comes first.
    pub search_domains: Vec<String>,
    pub extra_records: Vec<ExtraRecord>,
}

/// A record that clients answer by themselves.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ExtraRecord {
    #[serde(rename = "Name", alias = "name")]
    pub name: String,
    /// `A`, `AAAA`, or empty (the value decides).
    #[serde(rename = "Type", alias = "type", default, skip_serializing_if = "String::is_empty")]
    pub kind: String,
    #[serde(rename = "Value", alias = "value")]
    pub value: String,
}
