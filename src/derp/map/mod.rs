//! The regions that the configuration names: `derp.urls` and `derp.paths`.

mod parse;
mod update;

use crate::outbound::{Http, Limits};
use crate::tailcfg::{DerpMap, DerpRegion};
use parse::Part;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::AsyncReadExt;

pub use update::keep_current;

/// The largest map that is read. Tailscale's own has about 30 KiB.
const MAX_MAP: usize = 4 * 1024 * 1024;
const FETCH: Limits = Limits { time: Duration::from_secs(15), body: MAX_MAP };

/// Where maps come from, in the order in which they are merged: URLs, then files.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// `derp.urls`: JSON over http or https.
    pub urls: Vec<String>,
    /// `derp.paths`: YAML (or JSON, which is YAML).
    pub paths: Vec<PathBuf>,
}

/// One place that a map comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    Url(String),
    Path(PathBuf),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Url(url) => f.write_str(url),
            Source::Path(path) => path.display().fmt(f),
        }
    }
}

/// One source has no usable map.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("getting DERPMap: {from}: {reason}")]
pub struct MapError {
    pub from: Source,
    pub reason: String,
}

/// What [`MapLoader::load`] found.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// All sources merged; those that failed are there as they were when they last did not.
    pub map: DerpMap,
    /// The sources that failed now.
    pub failed: Vec<MapError>,
}

/// Reads the sources, again and again, and remembers what was last good of each.
pub struct MapLoader {
    sources: Vec<(Source, Option<Part>)>,
    http: Http,
}

impl MapLoader {
    /// A loader that has not read anything yet.
    pub fn new(sources: Sources) -> Self {
        Self::with_http(sources, Http::new(FETCH))
    }

    fn with_http(sources: Sources, http: Http) -> Self {
        let urls = sources.urls.into_iter().map(Source::Url);
        let paths = sources.paths.into_iter().map(Source::Path);
        Self { sources: urls.chain(paths).map(|source| (source, None)).collect(), http }
    }

    /// Reads all sources. A region of a later source replaces the one with the same id of an
    /// earlier one, and `null` removes it. One that fails does not keep the others from being used.
    pub async fn load(&mut self) -> Loaded {
        let mut failed = Vec::new();
        let mut map = Merged::default();
        for (source, last_good) in &mut self.sources {
            let fail = |reason| MapError { from: source.clone(), reason };
            match read(&self.http, source).await {
                Ok(part) => match map.check(&part) {
                    Ok(()) => *last_good = Some(part),
                    Err(reason) => failed.push(fail(reason)),
                },
                Err(reason) => failed.push(fail(reason)),
            }
            if let Some(part) = last_good {
                // What was good with the others as they were may not be with the others as they are.
                match map.check(part) {
                    Ok(()) => map.add(part),
                    Err(reason) => failed.push(fail(format!("as it was last read: {reason}"))),
                }
            }
        }
        let regions = map.regions;
        Loaded { map: DerpMap { regions, omit_default_regions: map.omit_default_regions }, failed }
    }
}

async fn read(http: &Http, source: &Source) -> Result<Part, String> {
    match source {
        Source::Url(url) => parse::json(&http.get(url).await?),
        Source::Path(path) => parse::yaml(&read_file(path).await.map_err(|e| e.to_string())?),
    }
}

async fn read_file(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    let file = tokio::fs::File::open(path).await?;
    file.take(MAX_MAP as u64 + 1).read_to_string(&mut text).await?;
    if text.len() > MAX_MAP {
        return Err(std::io::Error::other(format!("more than {MAX_MAP} bytes")));
    }
    Ok(text)
}

#[derive(Default)]
struct Merged {
    regions: BTreeMap<u32, DerpRegion>,
    omit_default_regions: bool,
}

impl Merged {
    /// Clients find a relay by its node's name, so it is unique over all regions.
    fn check(&self, part: &Part) -> Result<(), String> {
        let others = self.regions.iter().filter(|(id, _)| !part.regions.contains_key(id));
        let names: BTreeMap<&str, u32> =
            others.flat_map(|(id, region)| region.nodes.iter().map(|node| (node.name.as_str(), *id))).collect();
        for region in part.regions.values().flatten() {
            for node in &region.nodes {
                if let Some(other) = names.get(node.name.as_str()) {
                    return Err(format!(
                        "region {}: node {:?}: region {other} of an earlier source has a node of this name; rename one",
                        region.region_id, node.name
                    ));
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, part: &Part) {
        self.omit_default_regions |= part.omit_default_regions;
        for (id, region) in &part.regions {
            match region {
                Some(region) => drop(self.regions.insert(*id, region.clone())),
                None => drop(self.regions.remove(id)),
            }
        }
    }
}

#[cfg(test)]
mod tests;
