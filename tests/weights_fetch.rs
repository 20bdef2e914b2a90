//! Downloads of backbone weights from a small HTTP server within the test.
#![expect(
    clippy::unwrap_used,
    reason = "clippy.toml allows it in tests, but not in the functions they share"
)]

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use simplenet::backbone::architecture::Architecture;
use simplenet::backbone::weights::fetch::{FetchOptions, fetch, fetch_file};
use simplenet::backbone::weights::registry::KnownFile;
use simplenet::backbone::weights::store::{Installed, verify};
use simplenet::backbone::weights::{WeightsError, embedded};

/// How the server answers one request.
#[derive(Clone, Copy)]
enum Answer {
    /// All of the file or, with `Range`, the rest of it.
    Whole,
    /// The whole file, whatever `Range` says.
    WithoutRanges,
    /// As `Whole`, but the connection closes after this many bytes of the body.
    CutAfter(usize),
    /// As `CutAfter`, but the connection stays open and silent.
    StallAfter(usize),
    /// 404.
    NotFound,
}

struct Server {
    url: String,
    /// The `Range` header of every request so far.
    ranges: Arc<Mutex<Vec<Option<String>>>>,
}

/// Serves `content` under every path, one answer a connection; after the last answer, none is given.
fn serve(content: &[u8], answers: Vec<Answer>) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let ranges = Arc::new(Mutex::new(Vec::new()));
    let (content, log) = (content.to_vec(), ranges.clone());
    std::thread::spawn(move || {
        for answer in answers {
            let Ok((stream, _)) = listener.accept() else { return };
            let (content, log) = (content.clone(), log.clone());
            std::thread::spawn(move || respond(stream, &content, answer, &log));
        }
    });
    Server { url, ranges }
}

fn respond(mut stream: TcpStream, content: &[u8], answer: Answer, log: &Mutex<Vec<Option<String>>>) {
    let mut range = None;
    for line in BufReader::new(stream.try_clone().unwrap()).lines() {
        let line = line.unwrap();
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(": ")
            && name.eq_ignore_ascii_case("range")
        {
            range = Some(value.to_owned());
        }
    }
    log.lock().unwrap().push(range.clone());
    let total = content.len();
    let first = match (answer, &range) {
        (Answer::WithoutRanges, _) | (_, None) => 0,
        (_, Some(range)) => range.strip_prefix("bytes=").unwrap().strip_suffix('-').unwrap().parse().unwrap(),
    };
    let head = match answer {
        Answer::NotFound => "404 Not Found\r\nContent-Length: 0".to_owned(),
        _ if first >= total => format!("416 No\r\nContent-Length: 0\r\nContent-Range: bytes */{total}"),
        _ if first > 0 => format!(
            "206 Partial Content\r\nContent-Length: {}\r\nContent-Range: bytes {first}-{}/{total}",
            total - first,
            total - 1
        ),
        _ => format!("200 OK\r\nContent-Length: {total}"),
    };
    // The other side may have hung up, as it does where a test cuts the connection.
    let _ = stream.write_all(format!("HTTP/1.1 {head}\r\nConnection: close\r\n\r\n").as_bytes());
    let body = &content[first.min(total)..];
    match answer {
        Answer::Whole | Answer::WithoutRanges => drop(stream.write_all(body)),
        Answer::NotFound => {}
        Answer::CutAfter(count) => drop(stream.write_all(&body[..count.min(body.len())])),
        Answer::StallAfter(count) => {
            let _ = stream.write_all(&body[..count.min(body.len())]);
            std::thread::sleep(Duration::from_secs(20));
        }
    }
}

const SHA256: &str = "2615270b27bf1b7f3adf9752d078c713a4742e30302d46068c2ad35d2c0da7f2";

/// The embedded weights stand in for an official file: they are one that fits an architecture.
fn known(sha256: &str) -> KnownFile<'_> {
    KnownFile { architecture: Architecture::Resnet18Slim, folder: "http://unused", file: "slim.file", sha256 }
}

fn options(folder: &Path, server: &Server) -> FetchOptions {
    FetchOptions {
        folder: folder.to_owned(),
        mirror: Some(server.url.clone() + "/models/"),
        stall: Duration::from_millis(500),
        retries: 0,
    }
}

fn run(folder: &Path, server: &Server) -> Result<Installed, WeightsError> {
    fetch_file(&known(&SHA256[..8]), &options(folder, server), &mut |_, _| {})
}

fn names(folder: &Path) -> Vec<String> {
    std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
}

fn assert_installed(folder: &Path, installed: &Installed, server: &Server) {
    assert_eq!(names(folder), ["resnet18_slim.safetensors"]);
    assert_eq!(installed.record.source, format!("{}/models/slim.file", server.url));
    assert_eq!(installed.record.file_sha256.as_deref(), Some(SHA256));
    let verified = verify(None, installed.path.to_str().unwrap()).unwrap();
    assert_eq!(verified.record.as_ref(), Some(&installed.record));
    let embedded = verify(None, "resnet18_slim").unwrap();
    assert_eq!(verified.hash, embedded.hash, "the same weights in f32");
}

#[test]
fn a_whole_download_is_installed_and_its_progress_told() {
    let folder = tempfile::tempdir().unwrap();
    let server = serve(embedded::FILE, vec![Answer::Whole]);
    let mut told = Vec::new();
    let options = options(folder.path(), &server);
    let installed =
        fetch_file(&known(SHA256), &options, &mut |done, total| told.push((done, total))).unwrap();
    assert_installed(folder.path(), &installed, &server);
    let total = embedded::FILE.len() as u64;
    assert_eq!((told[0], *told.last().unwrap()), ((0, Some(total)), (total, Some(total))));
    assert!(told.is_sorted());
}

#[test]
fn a_cut_connection_is_resumed_by_the_next_call() {
    let folder = tempfile::tempdir().unwrap();
    let server = serve(embedded::FILE, vec![Answer::CutAfter(300_000), Answer::Whole]);
    let error = run(folder.path(), &server).unwrap_err().to_string();
    assert!(error.contains("the connection ended") && error.contains("run the command again"), "{error}");
    assert_eq!(names(folder.path()), ["slim.file.part"]);
    let installed = run(folder.path(), &server).unwrap();
    assert_installed(folder.path(), &installed, &server);
    assert_eq!(*server.ranges.lock().unwrap(), [None, Some("bytes=300000-".to_owned())]);
}

#[test]
fn retries_resume_within_one_call() {
    let folder = tempfile::tempdir().unwrap();
    let server =
        serve(embedded::FILE, vec![Answer::CutAfter(300_000), Answer::CutAfter(1_000), Answer::Whole]);
    let options = FetchOptions { retries: 2, ..options(folder.path(), &server) };
    let installed = fetch_file(&known(SHA256), &options, &mut |_, _| {}).unwrap();
    assert_installed(folder.path(), &installed, &server);
    assert_eq!(server.ranges.lock().unwrap()[2], Some("bytes=301000-".to_owned()));
}

#[test]
fn a_server_without_ranges_sends_all_again() {
    let folder = tempfile::tempdir().unwrap();
    let server = serve(embedded::FILE, vec![Answer::CutAfter(300_000), Answer::WithoutRanges]);
    run(folder.path(), &server).unwrap_err();
    let installed = run(folder.path(), &server).unwrap();
    assert_installed(folder.path(), &installed, &server);
}

#[test]
fn a_partial_file_that_is_already_whole_needs_no_more_bytes() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("slim.file.part"), embedded::FILE).unwrap();
    let server = serve(embedded::FILE, vec![Answer::Whole]);
    let installed = run(folder.path(), &server).unwrap();
    assert_installed(folder.path(), &installed, &server);
}

#[test]
fn a_partial_file_longer_than_the_servers_is_thrown_away() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("slim.file.part"), vec![7; embedded::FILE.len() + 1]).unwrap();
    let server = serve(embedded::FILE, vec![Answer::Whole, Answer::Whole]);
    let installed = run(folder.path(), &server).unwrap();
    assert_installed(folder.path(), &installed, &server);
    assert_eq!(server.ranges.lock().unwrap()[1], None);
}

#[test]
fn a_file_of_another_digest_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let mut content = embedded::FILE.to_vec();
    *content.last_mut().unwrap() ^= 1;
    let server = serve(&content, vec![Answer::Whole]);
    let error = run(folder.path(), &server).unwrap_err();
    assert!(matches!(error, WeightsError::WrongDigest { .. }), "{error}");
    assert!(error.to_string().contains(&SHA256[..8]) && error.to_string().contains("nothing was installed"));
    assert!(names(folder.path()).is_empty());
}

#[test]
fn a_right_digest_of_something_else_is_not_installed_either() {
    let folder = tempfile::tempdir().unwrap();
    let server = serve(b"a page that says hello", vec![Answer::Whole]);
    let error = fetch_file(&known(""), &options(folder.path(), &server), &mut |_, _| {}).unwrap_err();
    assert!(error.to_string().contains("is no weights file"), "{error}");
    assert!(!folder.path().join("resnet18_slim.safetensors").exists());
}

#[test]
fn a_status_that_is_no_success_is_an_error_with_its_number() {
    let folder = tempfile::tempdir().unwrap();
    let server = serve(embedded::FILE, vec![Answer::NotFound]);
    let error = run(folder.path(), &server).unwrap_err();
    assert!(matches!(error, WeightsError::Status { status: 404, .. }), "{error}");
    assert!(error.to_string().contains("/models/slim.file answers with HTTP status 404"), "{error}");
}

#[test]
fn a_silent_connection_is_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let server = serve(embedded::FILE, vec![Answer::StallAfter(100_000)]);
    let start = std::time::Instant::now();
    let error = run(folder.path(), &server).unwrap_err().to_string();
    assert!(error.contains("the connection stalled for 0.5 seconds"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(10));
    assert_eq!(std::fs::metadata(folder.path().join("slim.file.part")).unwrap().len(), 100_000);
}

#[test]
fn a_server_that_is_not_there_is_an_error_with_the_address() {
    let folder = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let server = Server { url, ranges: Arc::default() };
    let error = run(folder.path(), &server).unwrap_err().to_string();
    assert!(error.contains(&server.url) && error.contains("SIMPLENET_WEIGHTS_URL"), "{error}");
}

#[test]
fn two_downloads_of_one_file_do_not_mix() {
    let folder = tempfile::tempdir().unwrap();
    let server = serve(embedded::FILE, vec![Answer::Whole]);
    let part = std::fs::File::create(folder.path().join("slim.file.part")).unwrap();
    part.lock().unwrap();
    let error = run(folder.path(), &server).unwrap_err();
    assert!(matches!(error, WeightsError::Busy { .. }), "{error}");
    drop(part);
    run(folder.path(), &server).unwrap();
}

#[test]
fn the_embedded_backbone_has_nothing_to_fetch() {
    let folder = tempfile::tempdir().unwrap();
    let server = serve(embedded::FILE, vec![]);
    let error = fetch(Architecture::Resnet18Slim, &options(folder.path(), &server), &mut |_, _| {});
    assert!(matches!(error, Err(WeightsError::NothingToFetch)));
}
