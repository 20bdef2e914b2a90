//! `weights fetch`: downloads an official file, checks it and installs it.
//!
//! The download grows in `<weights folder>/<file>.part`, from where an interrupted one goes on. It becomes an
//! installed file only after its SHA-256 was found right.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::WeightsError;
use super::registry::{self, KnownFile};
use super::state_dict::StateDict;
use super::store::{self, Installed};
use crate::backbone::architecture::Architecture;

/// No known file is nearly as long; a server that sends more is not sending the file.
const LONGEST_FILE: u64 = 2 << 30;

/// How to fetch.
#[derive(Clone, Debug)]
pub struct FetchOptions {
    /// The weights folder.
    pub folder: PathBuf,
    /// A folder on a web server that holds the official files under their own names, instead of the official one.
    pub mirror: Option<String>,
    /// After this time without a byte the connection counts as stalled.
    pub stall: Duration,
    /// How often a connection that breaks off is taken up again before the error is given back.
    pub retries: u32,
}

impl FetchOptions {
    /// The usual ones: 30 s, 3 retries; the folder is [`store::folder`], the mirror `SIMPLENET_WEIGHTS_URL` if set.
    pub fn from_environment() -> Result<Self, WeightsError> {
        Ok(Self {
            folder: store::folder().ok_or(WeightsError::NoFolder)?,
            mirror: std::env::var("SIMPLENET_WEIGHTS_URL").ok().filter(|url| !url.is_empty()),
            stall: Duration::from_secs(30),
            retries: 3,
        })
    }
}

/// Installs the official weights of `architecture`; where they are installed and sound already, nothing is fetched.
///
/// `progress` is told the bytes that are there and, where the server says it, how many there will be.
///
/// # Errors
/// `Download`, `Status` and `Busy` leave the partial file in place for the next attempt; `WrongDigest` removes it.
pub fn fetch(
    architecture: Architecture,
    options: &FetchOptions,
    progress: &mut dyn FnMut(u64, Option<u64>),
) -> Result<Installed, WeightsError> {
    let known = registry::official(architecture).ok_or(WeightsError::NothingToFetch)?;
    let path = store::installed_path(&options.folder, architecture);
    if let Ok(installed) = store::installed(&path)
        && installed.record.file_sha256.as_ref().is_some_and(|sha256| known.is(sha256))
        && store::verify(Some(&options.folder), architecture.name()).is_ok()
    {
        return Ok(installed);
    }
    fetch_file(known, options, progress)
}

/// [`fetch`] for a file that need not be one of [`registry::KNOWN_FILES`], whatever is installed.
pub fn fetch_file(
    known: &KnownFile<'_>,
    options: &FetchOptions,
    progress: &mut dyn FnMut(u64, Option<u64>),
) -> Result<Installed, WeightsError> {
    let url = known.url(options.mirror.as_deref());
    let part = options.folder.join(format!("{}.part", known.file));
    std::fs::create_dir_all(&options.folder).map_err(WeightsError::writing(&options.folder))?;
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&part)
        .map_err(WeightsError::writing(&part))?;
    // A file system without locks gives another error; there, the digest still catches what two writers make.
    if let Err(TryLockError::WouldBlock) = file.try_lock() {
        return Err(WeightsError::Busy { path: part });
    }

    let mut download = Download { url: &url, part: &part, options, agent: agent(options) };
    download.whole(&mut file, progress)?;
    drop(file);

    let found = store::sha256(&super::map_file(&part)?);
    if !known.is(&found) {
        remove(&part)?;
        return Err(WeightsError::WrongDigest { url, expected: known.sha256.to_owned(), found });
    }
    let mut weights = StateDict::load(&part)?;
    weights.origin.clone_from(&url);
    let installed = store::install(&options.folder, &weights, known.architecture, &url, Some(found))?;
    remove(&part)?;
    Ok(installed)
}

fn remove(path: &Path) -> Result<(), WeightsError> {
    std::fs::remove_file(path).map_err(WeightsError::writing(path))
}

fn agent(options: &FetchOptions) -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_resolve(Some(options.stall))
        .timeout_connect(Some(options.stall))
        .timeout_recv_response(Some(options.stall))
        .timeout_per_read(Some(options.stall))
        .build()
        .into()
}

/// What one connection came to.
enum Outcome {
    /// The file is complete.
    Complete,
    /// The connection broke off; what came is in the file.
    Broken(String),
    /// The partial file does not fit what the server has.
    StartAgain,
}

struct Download<'a> {
    url: &'a str,
    part: &'a Path,
    options: &'a FetchOptions,
    agent: ureq::Agent,
}

impl Download<'_> {
    /// Downloads until the file is complete or the retries are used up.
    fn whole(
        &mut self,
        file: &mut File,
        progress: &mut dyn FnMut(u64, Option<u64>),
    ) -> Result<(), WeightsError> {
        let mut retries = self.options.retries;
        let mut restarted = false;
        loop {
            let what = match self.connection(file, progress)? {
                Outcome::Complete => return Ok(()),
                Outcome::StartAgain if !restarted => {
                    restarted = true;
                    file.set_len(0).map_err(WeightsError::writing(self.part))?;
                    continue;
                }
                Outcome::StartAgain => {
                    "the server's answers about the file's length contradict each other".to_owned()
                }
                Outcome::Broken(what) if retries == 0 => what,
                Outcome::Broken(_) => {
                    retries -= 1;
                    continue;
                }
            };
            return Err(WeightsError::Download { url: self.url.to_owned(), what });
        }
    }

    /// Asks for what is missing and appends it.
    fn connection(
        &mut self,
        file: &mut File,
        progress: &mut dyn FnMut(u64, Option<u64>),
    ) -> Result<Outcome, WeightsError> {
        let mut done = file.seek(SeekFrom::End(0)).map_err(WeightsError::writing(self.part))?;
        let mut request = self.agent.get(self.url).header("Accept-Encoding", "identity");
        if done > 0 {
            request = request.header("Range", format!("bytes={done}-"));
        }
        let mut response = match request.call() {
            Ok(response) => response,
            Err(error) => return Ok(Outcome::Broken(self.explain(error))),
        };
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        let range = header("Content-Range").and_then(ContentRange::parse);
        let total = match (response.status().as_u16(), range) {
            (206, Some(range)) if range.first == Some(done) => range.total,
            // The server has no more: either everything is here, or another file is.
            (416, Some(range)) if done > 0 && range.total == Some(done) => return Ok(Outcome::Complete),
            (206 | 416, _) if done > 0 => return Ok(Outcome::StartAgain),
            // The server knows no ranges: it sends everything from the start.
            (200, _) => {
                file.set_len(0).map_err(WeightsError::writing(self.part))?;
                done = file.seek(SeekFrom::Start(0)).map_err(WeightsError::writing(self.part))?;
                header("Content-Length").and_then(|length| length.parse().ok())
            }
            (status, _) => return Err(WeightsError::Status { url: self.url.to_owned(), status }),
        };

        let mut body = response.body_mut().as_reader();
        let mut buffer = vec![0; 1 << 16];
        progress(done, total);
        loop {
            match body.read(&mut buffer) {
                Ok(0) if total.is_some_and(|total| done < total) => {
                    return Ok(Outcome::Broken(format!("the connection ended after {done} bytes")));
                }
                Ok(0) => return Ok(Outcome::Complete),
                Ok(count) => {
                    file.write_all(&buffer[..count]).map_err(WeightsError::writing(self.part))?;
                    done += count as u64;
                    if done > LONGEST_FILE {
                        file.set_len(0).map_err(WeightsError::writing(self.part))?;
                        let what = format!("more than {LONGEST_FILE} bytes came");
                        return Err(WeightsError::Download { url: self.url.to_owned(), what });
                    }
                    progress(done, total);
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let why = self.explain(error.into());
                    return Ok(Outcome::Broken(format!("{why} after {done} bytes")));
                }
            }
        }
    }

    /// What ureq says, in words.
    fn explain(&self, error: ureq::Error) -> String {
        match error {
            ureq::Error::Timeout(_) => {
                format!("the connection stalled for {} seconds", self.options.stall.as_secs_f32())
            }
            ureq::Error::Io(error) => match error.kind() {
                std::io::ErrorKind::UnexpectedEof => "the connection ended".into(),
                _ => match error.downcast::<ureq::Error>() {
                    Ok(inner) => self.explain(inner),
                    Err(error) => error.to_string(),
                },
            },
            ureq::Error::HostNotFound => "the server's name is unknown".into(),
            other => other.to_string(),
        }
    }
}

/// The header `Content-Range: bytes FIRST-LAST/TOTAL`, where `FIRST-LAST` and `TOTAL` may each be `*`.
struct ContentRange {
    first: Option<u64>,
    total: Option<u64>,
}

impl ContentRange {
    fn parse(header: &str) -> Option<Self> {
        let (range, total) = header.trim().strip_prefix("bytes")?.trim().split_once('/')?;
        let first = range.split_once('-').and_then(|(first, _)| first.parse().ok());
        Some(Self { first, total: total.parse().ok() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_installed_and_sound_is_not_fetched_again() {
        let folder = tempfile::tempdir().unwrap();
        // An address where no one answers: port 9 of this machine, and no retries.
        let options = FetchOptions {
            folder: folder.path().to_owned(),
            mirror: Some("http://127.0.0.1:9".to_owned()),
            stall: Duration::from_secs(1),
            retries: 0,
        };
        let architecture = Architecture::Resnet18;
        let weights = StateDict::synthetic(architecture, 0);
        let install = |sha256: &str| {
            store::install(folder.path(), &weights, architecture, "test", Some(sha256.to_owned())).unwrap()
        };
        let installed = install("f37072fd0000");
        let found = fetch(architecture, &options, &mut |_, _| panic!("nothing is downloaded")).unwrap();
        assert_eq!(found.record, installed.record);

        let mut content = std::fs::read(&installed.path).unwrap();
        *content.last_mut().unwrap() ^= 1;
        std::fs::write(&installed.path, content).unwrap();
        let error = fetch(architecture, &options, &mut |_, _| {}).unwrap_err();
        assert!(matches!(error, WeightsError::Download { .. }), "a changed file is fetched again: {error}");
        install("00000000");
        assert!(fetch(architecture, &options, &mut |_, _| {}).is_err(), "so is one from elsewhere");
    }

    #[test]
    fn content_ranges_are_parsed() {
        let parse = |header| ContentRange::parse(header).map(|range| (range.first, range.total));
        assert_eq!(parse("bytes 5-9/10"), Some((Some(5), Some(10))));
        assert_eq!(parse("bytes 5-9/*"), Some((Some(5), None)));
        assert_eq!(parse("bytes */10"), Some((None, Some(10))));
        assert_eq!(parse("items 1-2/3"), None);
    }
}
