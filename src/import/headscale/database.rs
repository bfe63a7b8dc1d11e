//! The database file: opened without changing it, and its schema.

use super::row::{Row, ValueError};
use rusqlite::{Connection, OpenFlags};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What the tables of each release that is read have, as far as it matters.
const NEEDED: [(&str, &[&str]); 5] = [
    ("users", &["id", "name", "email", "provider_identifier", "provider", "deleted_at"]),
    (
        "pre_auth_keys",
        &["id", "key", "prefix", "hash", "user_id", "reusable", "ephemeral", "used", "tags", "expiration"],
    ),
    ("api_keys", &["id", "prefix", "hash", "expiration"]),
    ("nodes", &["id", "machine_key", "node_key", "host_info", "ipv4", "ipv6", "given_name", "tags", "approved_routes"]),
    ("policies", &["id", "data"]),
];

/// The database cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// There is no such file.
    #[error("reading {}: {source}", path.display())]
    File { path: PathBuf, source: std::io::Error },
    /// SQLite says no.
    #[error(
        "reading {}: {reason}; stop Headscale, copy the file and, if they are there, those with \"-wal\" and \"-shm\" \
         behind its name into a directory of your own, and name the copy",
        path.display()
    )]
    Sqlite { path: PathBuf, reason: String },
    /// It is damaged.
    #[error("{} is damaged: {reason}; restore it from a backup, or repair it with \"sqlite3 FILE .recover\"", path.display())]
    Damaged { path: PathBuf, reason: String },
    /// It has other tables.
    #[error(
        "{} has no {what}: databases of Headscale 0.28, 0.29 and 0.30 are read; upgrade an older Headscale first, \
         release by release",
        path.display()
    )]
    Schema { path: PathBuf, what: String },
    /// A value is not what Headscale writes.
    #[error("{}: table {table}, row {id}: {error}", path.display())]
    Value { path: PathBuf, table: &'static str, id: i64, error: ValueError },
}

/// Headscale's database, as it was when it was opened.
pub struct Database {
    connection: Connection,
    path: PathBuf,
}

impl Database {
    /// Opens the file, and checks that it is whole and Headscale's.
    pub fn open(path: &Path) -> Result<Self, DatabaseError> {
        let of_file = |source| DatabaseError::File { path: path.to_owned(), source };
        std::fs::File::open(path).map_err(of_file)?;
        let database = match Self::begin(path, false) {
            // A directory that nothing can be written to: SQLite may then be told that nobody writes.
            Err(_) if log_size(path) == 0 => Self::begin(path, true),
            opened => opened,
        };
        let database =
            database.map_err(|error| DatabaseError::Sqlite { path: path.to_owned(), reason: error.to_string() })?;
        database.check_whole()?;
        database.check_schema()?;
        Ok(database)
    }

    /// One transaction for everything, so that a server that still writes does not matter.
    fn begin(path: &Path, unchanging: bool) -> rusqlite::Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = if unchanging {
            let name = path.display().to_string().replace('%', "%25").replace('?', "%3f").replace('#', "%23");
            Connection::open_with_flags(format!("file:{name}?immutable=1"), flags | OpenFlags::SQLITE_OPEN_URI)?
        } else {
            Connection::open_with_flags(path, flags)?
        };
        connection.execute_batch("BEGIN; SELECT count(*) FROM sqlite_schema;")?;
        Ok(Self { connection, path: path.to_owned() })
    }

    /// The release that wrote it last, as far as it says: `Headscale 0.29.2`.
    pub fn release(&self) -> Result<String, DatabaseError> {
        if self.columns("database_versions")?.is_empty() {
            return Ok("Headscale 0.28".into());
        }
        let version =
            self.connection.query_row("SELECT version FROM database_versions ORDER BY id LIMIT 1", [], |row| {
                row.get::<_, String>(0)
            });
        let version = version.unwrap_or_else(|_| "of an unknown release".into());
        Ok(format!("Headscale {}", version.trim_start_matches('v')))
    }

    /// Whether changes wait beside the file.
    pub fn has_write_ahead_log(&self) -> bool {
        log_size(&self.path) > 0
    }

    /// Whether the table is there.
    pub fn has_table(&self, table: &str) -> Result<bool, DatabaseError> {
        Ok(!self.columns(table)?.is_empty())
    }

    pub fn count(&self, table: &'static str) -> Result<u64, DatabaseError> {
        let count = self.connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get::<_, i64>(0));
        count.map(|count| u64::try_from(count).unwrap_or(0)).map_err(|error| self.failed(&error))
    }

    /// The highest number that was ever given out in a table.
    pub fn last_number(&self, table: &str) -> Result<u64, DatabaseError> {
        if self.columns("sqlite_sequence")?.is_empty() {
            return Ok(0);
        }
        let query = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = ?1";
        let last = self.connection.query_row(query, [table], |row| row.get::<_, i64>(0));
        last.map(|last| u64::try_from(last).unwrap_or(0)).map_err(|error| self.failed(&error))
    }

    /// The rows of a table by number, each as `read` makes it.
    pub fn rows<T>(
        &self,
        table: &'static str,
        mut read: impl FnMut(&Row) -> Result<T, ValueError>,
    ) -> Result<Vec<T>, DatabaseError> {
        let failed = |error: rusqlite::Error| self.failed(&error);
        let query = format!("SELECT * FROM {table} ORDER BY id");
        let mut statement = self.connection.prepare(&query).map_err(failed)?;
        let mut rows = statement.query([]).map_err(failed)?;
        let mut read_rows = Vec::new();
        while let Some(row) = rows.next().map_err(failed)? {
            let row = Row::new(row);
            let value = read(&row).map_err(|error| DatabaseError::Value {
                path: self.path.clone(),
                table,
                id: row.id(),
                error,
            })?;
            read_rows.push(value);
        }
        Ok(read_rows)
    }

    fn check_whole(&self) -> Result<(), DatabaseError> {
        let found = self.connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
        let reason = match found {
            Ok(text) if text == "ok" => return Ok(()),
            Ok(text) => text,
            Err(error) => error.to_string(),
        };
        Err(DatabaseError::Damaged { path: self.path.clone(), reason })
    }

    fn check_schema(&self) -> Result<(), DatabaseError> {
        for (table, needed) in NEEDED {
            let columns = self.columns(table)?;
            let missing = if columns.is_empty() {
                Some(format!("table {table}"))
            } else {
                needed.iter().find(|name| !columns.contains(**name)).map(|name| format!("column {table}.{name}"))
            };
            if let Some(what) = missing {
                return Err(DatabaseError::Schema { path: self.path.clone(), what });
            }
        }
        Ok(())
    }

    fn columns(&self, table: &str) -> Result<BTreeSet<String>, DatabaseError> {
        let failed = |error: rusqlite::Error| self.failed(&error);
        let mut statement = self.connection.prepare("SELECT name FROM pragma_table_info(?1)").map_err(failed)?;
        let names = statement.query_map([table], |row| row.get::<_, String>(0)).map_err(failed)?;
        names.collect::<Result<_, _>>().map_err(failed)
    }

    fn failed(&self, error: &rusqlite::Error) -> DatabaseError {
        DatabaseError::Sqlite { path: self.path.clone(), reason: error.to_string() }
    }
}

fn log_size(path: &Path) -> u64 {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    std::fs::metadata(name).map_or(0, |log| log.len())
}
