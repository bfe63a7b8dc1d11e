//! Where the configuration is found, and what it takes to load it.

use super::reader::Reader;
use super::{CliConfig, Config, build};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// No configuration file is larger: what is, was named by mistake.
const LARGEST_FILE: u64 = 4 << 20;

/// What loading depends on besides files: passed in, so that tests need no process of their own.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// The process's environment.
    pub env: BTreeMap<String, String>,
    /// Where a file is looked for when none is named.
    pub directories: Vec<PathBuf>,
    /// Whether the process may write where packages put a server's data.
    pub root: bool,
}

impl Surroundings {
    /// This process's.
    pub fn of_this_process() -> Self {
        let text = |s: std::ffi::OsString| s.to_string_lossy().into_owned();
        let env: BTreeMap<_, _> = std::env::vars_os().map(|(k, v)| (text(k), text(v))).collect();
        let mut directories: Vec<PathBuf> = vec!["/etc/quorumscale".into(), "/etc/headscale".into()];
        directories.extend(env.get("HOME").map(|home| Path::new(home).join(".headscale")));
        directories.push(".".into());
        Self { env, directories, root: is_root() }
    }

    /// The environment's value, unless it is empty, which counts as not set.
    pub(super) fn var(&self, name: &str) -> Option<&str> {
        self.env.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The file to read: the one that is named, or the first that is there.
    fn find(&self, named: Option<&Path>) -> Option<PathBuf> {
        let in_env = || self.var("QUORUMSCALE_CONFIG").or_else(|| self.var("HEADSCALE_CONFIG")).map(PathBuf::from);
        if let Some(path) = named.map(PathBuf::from).or_else(in_env) {
            return Some(path);
        }
        let names = ["config.yaml", "config.yml", "config.json"];
        let candidates = self.directories.iter().flat_map(|dir| names.iter().map(move |name| dir.join(name)));
        candidates.into_iter().find(|path| path.is_file())
    }
}

/// The configuration, and what an operator should know about it.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub config: Config,
    pub notes: Vec<Note>,
}

/// One thing that an operator should know, a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    Info(String),
    Warning(String),
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Note::Info(text) => f.write_str(text),
            Note::Warning(text) => write!(f, "Warning: {text}"),
        }
    }
}

/// The configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file is not there, or cannot be read.
    #[error("reading {}: {source}", file.display())]
    Read { file: PathBuf, source: std::io::Error },
    /// It is too large to be a configuration.
    #[error("reading {}: {size} bytes is more than a configuration file has ({LARGEST_FILE})", file.display())]
    TooLarge { file: PathBuf, size: u64 },
    /// Its name ends in something that is not read here.
    #[error("reading {}: only YAML and JSON are read, not TOML: convert the file", file.display())]
    Format { file: PathBuf },
    /// It is neither YAML nor JSON, or not a map.
    #[error("parsing {}: {problem}", file.display())]
    Parse { file: PathBuf, problem: String },
    /// Everything that is wrong with its values, all at once.
    #[error("{}", list(origin, problems))]
    Values { origin: String, problems: Vec<String> },
}

fn list(origin: &str, problems: &[String]) -> String {
    match problems {
        [one] => format!("{origin}: {one}"),
        many => {
            let lines: String = many.iter().map(|problem| format!("\n  - {problem}")).collect();
            format!("{origin}: {} problems:{lines}", many.len())
        }
    }
}

/// Loads and checks everything. `named` is `--config`.
pub fn load(named: Option<&Path>, surroundings: &Surroundings) -> Result<Loaded, LoadError> {
    let file = surroundings.find(named);
    let mut reader = Reader::open(file.clone(), surroundings)?;
    reader.sort_keys();
    let config = Config { file: file.clone(), ..build::config(&mut reader, surroundings.root) };
    if file.is_none() {
        let directories: Vec<_> = surroundings.directories.iter().map(|dir| dir.display().to_string()).collect();
        reader.info(format!("no configuration file in {}: these defaults apply", directories.join(", ")));
        build::summary(&config).into_iter().for_each(|line| reader.info(line));
    }
    let (notes, problems) = reader.finish();
    match problems.is_empty() {
        true => Ok(Loaded { config, notes }),
        false => Err(LoadError::Values { origin: origin(file.as_deref()), problems }),
    }
}

/// What a command needs to reach a server.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// `None`: no file was found.
    pub file: Option<PathBuf>,
    pub unix_socket: PathBuf,
    pub cli: CliConfig,
}

/// Loads only what a command needs to reach a server, and checks nothing else.
pub fn load_client(named: Option<&Path>, surroundings: &Surroundings) -> Result<ClientConfig, LoadError> {
    let file = surroundings.find(named);
    let mut reader = Reader::open(file.clone(), surroundings)?;
    let data_dir = build::data_dir(&mut reader, surroundings.root);
    let unix_socket = build::unix_socket(&mut reader, &data_dir, surroundings.root);
    let cli = build::cli(&mut reader);
    let (_, problems) = reader.finish();
    match problems.is_empty() {
        true => Ok(ClientConfig { file, unix_socket, cli }),
        false => Err(LoadError::Values { origin: origin(file.as_deref()), problems }),
    }
}

pub(super) fn origin(file: Option<&Path>) -> String {
    file.map_or("the environment".into(), |file| file.display().to_string())
}

/// Reads a file's text.
pub(super) fn read(file: &Path) -> Result<String, LoadError> {
    let of_file = |source| LoadError::Read { file: file.into(), source };
    if file.extension().is_some_and(|extension| extension == "toml") {
        return Err(LoadError::Format { file: file.into() });
    }
    let size = std::fs::metadata(file).map_err(of_file)?.len();
    if size > LARGEST_FILE {
        return Err(LoadError::TooLarge { file: file.into(), size });
    }
    std::fs::read_to_string(file).map_err(of_file)
}

/// Whether this process runs as root. The owner of its entry in `/proc` is its effective user.
fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|entry| entry.uid() == 0)
}
