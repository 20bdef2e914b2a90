//! A folder to work in, images to put there, and the program run in it.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use image::{GrayImage, Luma, Rgb, RgbImage};
use serde_json::Value;

/// The program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_simplenet");

/// Settings under which a training takes a fraction of a second.
pub(crate) const FAST: &str = "--backbone resnet18_slim --size 64 --hidden 32 --epochs 2";

/// Side of the images; larger than the network's input, so that the way back is walked too.
const SIDE: u32 = 96;
/// Left, top, right and bottom of every drawn defect.
const DEFECT: [u32; 4] = [36, 40, 60, 52];

/// A folder of its own, which is the program's current folder, cache and weights included.
pub(crate) struct World {
    root: PathBuf,
    _guard: Option<tempfile::TempDir>,
}

/// How a command ended and what it said.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl World {
    pub(crate) fn new() -> Self {
        let guard = tempfile::tempdir().unwrap();
        Self { root: guard.path().to_owned(), _guard: Some(guard) }
    }

    /// A world with one category, `data/weave`, of eight good images to learn from and six to test on.
    pub(crate) fn with_data() -> Self {
        let world = Self::new();
        write_category(&world.path("data/weave"), 0, "png");
        world
    }

    /// A world with data and a trained model, shared by the tests that only read it.
    pub(crate) fn trained() -> &'static Self {
        static SHARED: LazyLock<World> = LazyLock::new(|| {
            // In the target folder, since what is static is never dropped; each process has its own, and clears
            // what earlier ones left.
            let all = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cli");
            let _ = std::fs::remove_dir_all(&all);
            let root = all.join(std::process::id().to_string());
            std::fs::create_dir_all(&root).unwrap();
            let world = World { root, _guard: None };
            write_category(&world.path("data/weave"), 0, "png");
            world.run(&format!("train --data data {FAST} --output run")).succeeds();
            world
        });
        &SHARED
    }

    pub(crate) fn path(&self, inside: impl AsRef<Path>) -> PathBuf {
        self.root.join(inside)
    }

    /// The program with arguments that hold no blanks.
    pub(crate) fn command(&self, arguments: &str) -> assert_cmd::Command {
        let mut command = assert_cmd::Command::new(PROGRAM);
        self.prepare(&mut command, arguments);
        command
    }

    /// The program as a child that can be killed.
    pub(crate) fn child(&self, arguments: &str) -> std::process::Command {
        let mut command = std::process::Command::new(PROGRAM);
        command.args(arguments.split_whitespace()).current_dir(&self.root);
        for (name, value) in self.environment() {
            command.env(name, value);
        }
        command
    }

    /// The program under a line of bash, where it is `"$@"`.
    #[cfg(unix)]
    pub(crate) fn under_bash(&self, line: &str, arguments: &str) -> Ran {
        let mut command = assert_cmd::Command::new("bash");
        command.args(["-o", "pipefail", "-c", line, "bash", PROGRAM]);
        self.prepare(&mut command, arguments);
        Ran::of(&mut command)
    }

    pub(crate) fn run(&self, arguments: &str) -> Ran {
        Ran::of(&mut self.command(arguments))
    }

    fn prepare(&self, command: &mut assert_cmd::Command, arguments: &str) {
        command.args(arguments.split_whitespace()).current_dir(&self.root);
        for (name, value) in self.environment() {
            command.env(name, value);
        }
    }

    fn environment(&self) -> [(&'static str, PathBuf); 2] {
        [("SIMPLENET_CACHE_DIR", self.path("cache")), ("SIMPLENET_WEIGHTS_DIR", self.path("weights"))]
    }

    pub(crate) fn text(&self, inside: &str) -> String {
        let path = self.path(inside);
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    pub(crate) fn bytes(&self, inside: &str) -> Vec<u8> {
        let path = self.path(inside);
        std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    pub(crate) fn json(&self, inside: &str) -> Value {
        serde_json::from_str(&self.text(inside)).unwrap()
    }

    pub(crate) fn lines(&self, inside: &str) -> Vec<Value> {
        json_lines(&self.text(inside))
    }

    pub(crate) fn write(&self, inside: impl AsRef<Path>, content: impl AsRef<[u8]>) {
        let path = self.path(inside);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    pub(crate) fn copy(&self, from: &str, to: impl AsRef<Path>) {
        self.write(to, self.bytes(from));
    }

    /// Every file of the world, relative and sorted.
    pub(crate) fn files(&self) -> Vec<String> {
        let mut files = Vec::new();
        let mut folders = vec![self.root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let entry = entry.unwrap();
                if entry.file_type().unwrap().is_dir() {
                    folders.push(entry.path());
                } else {
                    let path = entry.path();
                    files.push(path.strip_prefix(&self.root).unwrap().to_string_lossy().into_owned());
                }
            }
        }
        files.sort();
        files
    }

    /// Nothing half-written lies anywhere.
    pub(crate) fn assert_clean(&self) {
        let unfinished: Vec<_> = self.files().into_iter().filter(|file| file.contains(".writing-")).collect();
        assert!(unfinished.is_empty(), "left behind: {unfinished:?}");
    }
}

impl Ran {
    pub(crate) fn of(command: &mut assert_cmd::Command) -> Self {
        let output = command.timeout(std::time::Duration::from_secs(120)).output().unwrap();
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    #[track_caller]
    pub(crate) fn succeeds(self) -> Self {
        self.exits(0)
    }

    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}{}", self.stdout, self.stderr);
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        self
    }

    /// The command failed with `code`, gave no data, and its one error says all of `words`.
    #[track_caller]
    pub(crate) fn fails(self, code: i32, words: &[&str]) -> Self {
        let ran = self.exits(code);
        let errors: Vec<&str> = ran.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
        assert_eq!(errors.len(), 1, "{}", ran.stderr);
        let said = &ran.stderr[ran.stderr.find("error: ").unwrap()..];
        for word in words {
            assert!(said.contains(word), "`{word}` is not in: {said}");
        }
        ran
    }

    pub(crate) fn lines(&self) -> Vec<Value> {
        json_lines(&self.stdout)
    }
}

pub(crate) fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A field of every line.
pub(crate) fn column(lines: &[Value], name: &str) -> Vec<Value> {
    lines.iter().map(|line| line[name].clone()).collect()
}

/// The scores of lines that have one.
pub(crate) fn scores(lines: &[Value]) -> Vec<f64> {
    lines.iter().map(|line| line["score"].as_f64().unwrap()).collect()
}

#[track_caller]
pub(crate) fn assert_close(a: &[f64], b: &[f64], tolerance: f64) {
    assert_eq!(a.len(), b.len());
    let scale = a.iter().fold(0.0, |scale: f64, x| scale.max(x.abs()));
    for (x, y) in a.iter().zip(b) {
        assert!((x - y).abs() <= tolerance * scale, "{x} and {y} differ by more than {tolerance}");
    }
}

/// A woven texture, different for every `number`, with or without a dark blot.
pub(crate) fn texture(number: u32, width: u32, height: u32, defective: bool) -> RgbImage {
    let phase = f64::from(number) * 0.7;
    RgbImage::from_fn(width, height, |x, y| {
        let wave = (f64::from(x) * 0.55 + phase).sin() * (f64::from(y) * 0.35 - phase).cos();
        let grain = (x * 7919 + y * 104_729 + number * 1_299_709).wrapping_mul(2_654_435_761) >> 28;
        let level = 128.0 + 60.0 * wave + f64::from(grain);
        if defective && is_blot(x, y) { Rgb([20, 10, 10]) } else { Rgb([level as u8, level as u8 / 2, 90]) }
    })
}

fn is_blot(x: u32, y: u32) -> bool {
    let [left, top, right, bottom] = DEFECT;
    (left..right).contains(&x) && (top..bottom).contains(&y)
}

/// The truth about a defective texture.
pub(crate) fn mask(width: u32, height: u32) -> GrayImage {
    GrayImage::from_fn(width, height, |x, y| Luma([if is_blot(x, y) { 255 } else { 0 }]))
}

pub(crate) fn save(image: &RgbImage, path: &Path) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    image.save(path).unwrap();
}

/// A good image.
pub(crate) fn good(number: u32) -> RgbImage {
    texture(number, SIDE, SIDE, false)
}

/// A defective image.
pub(crate) fn bad(number: u32) -> RgbImage {
    texture(number, SIDE, SIDE, true)
}

/// A category in MVTec AD's layout: 8 good images to learn from; 3 good and 3 blotted ones with masks to test on.
pub(crate) fn write_category(root: &Path, first: u32, extension: &str) {
    for number in 0..8 {
        save(&good(first + number), &root.join(format!("train/good/{number:03}.{extension}")));
    }
    for number in 0..3 {
        save(&good(first + 20 + number), &root.join(format!("test/good/{number:03}.{extension}")));
        save(&bad(first + 30 + number), &root.join(format!("test/blot/{number:03}.{extension}")));
        let path = root.join(format!("ground_truth/blot/{number:03}_mask.png"));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        mask(SIDE, SIDE).save(path).unwrap();
    }
}

/// Changes the metadata of a safetensors file that this program wrote.
pub(crate) fn edit_metadata(file: &[u8], edit: impl FnOnce(&mut Value)) -> Vec<u8> {
    let (length, rest) = file.split_first_chunk().unwrap();
    let (header, data) = rest.split_at(u64::from_le_bytes(*length) as usize);
    let mut header: Value = serde_json::from_slice(header).unwrap();
    let entry = &mut header["__metadata__"]["simplenet"];
    let mut metadata: Value = serde_json::from_str(entry.as_str().unwrap()).unwrap();
    edit(&mut metadata);
    *entry = metadata.to_string().into();
    let header = header.to_string();
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
}
