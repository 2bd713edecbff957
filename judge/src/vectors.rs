//! The vectors: `spec/vectors/df11.json` and the safetensors files beside it, `frames.json` and
//! `delta.json`, compiled in.

use df11::Parts;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// All vectors, as `df11.json` holds them; `df11.schema.json` describes the form.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Vectors {
    /// Always "DF11".
    pub algorithm: String,
    /// The file with the JSON schema.
    pub schema: String,
    /// Version of `DF11.md`.
    pub spec_version: String,
    /// The command that makes these files.
    pub generator: String,
    /// Number of tests in all groups.
    pub number_of_tests: usize,
    /// What a reader should know.
    pub header: Vec<String>,
    /// What each flag means.
    pub notes: std::collections::BTreeMap<String, Note>,
    /// The groups.
    pub test_groups: Vec<Group>,
}

/// What tells one set of vectors from another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fingerprint {
    /// SHA-256 of the lines `SHA256  NAME` of all files, in the order of their names, as
    /// `sha256sum` prints them.
    pub sha256: String,
    /// SHA-256 of each file.
    pub files: std::collections::BTreeMap<String, String>,
    /// The version of `DF11.md` that they test.
    pub units: String,
    /// The version of `FRAME.md`.
    pub frames: String,
    /// The version of `DELTA.md`.
    pub deltas: String,
}

/// What a flag means.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Note {
    /// What is special about vectors with this flag.
    pub description: String,
    /// What happens in an implementation that gets it wrong.
    pub effect: String,
}

/// What is asked of an implementation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Task {
    /// Decode a unit, or refuse it.
    UnitDecode,
    /// Encode weights, or refuse them.
    UnitEncode,
    /// Decode a frame, or refuse it.
    FrameDecode,
    /// Decode an archive of dietgpu, or refuse it.
    ArchiveDecode,
    /// Apply a delta to its base, or refuse one of the two.
    DeltaDecode,
}

impl Task {
    /// Every task.
    pub const ALL: [Task; 5] =
        [Task::UnitDecode, Task::UnitEncode, Task::FrameDecode, Task::ArchiveDecode, Task::DeltaDecode];

    /// What a program that does it is called.
    #[must_use]
    pub fn judged(self) -> &'static str {
        match self {
            Task::UnitDecode => "decoder",
            Task::UnitEncode => "encoder",
            Task::FrameDecode => "frame decoder",
            Task::ArchiveDecode => "archive decoder",
            Task::DeltaDecode => "delta decoder",
        }
    }

    /// Its word in the batch protocol and in files.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Task::UnitDecode => "unit",
            Task::UnitEncode => "encode",
            Task::FrameDecode => "frame",
            Task::ArchiveDecode => "archive",
            Task::DeltaDecode => "delta",
        }
    }
}

/// Tests of one kind and origin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Group {
    /// What is asked.
    #[serde(rename = "type")]
    pub task: Task,
    /// Who wrote the units.
    pub source: Source,
    /// The tests.
    pub tests: Vec<Test>,
}

/// Who wrote the units of a group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Source {
    /// The program.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// What an implementation has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// Give exactly the bits.
    Valid,
    /// Refuse.
    Invalid,
    /// Refuse, or give exactly the bits.
    Acceptable,
    /// Refuse, though nothing is damaged: this version of the format does not have it.
    Unsupported,
}

/// A test.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Test {
    /// Number, unique among all groups.
    pub tc_id: usize,
    /// Name, unique among all groups: the prefix of its tensors in `file`.
    pub id: String,
    /// What it is about.
    pub comment: String,
    /// Flags, explained in the notes.
    pub flags: Vec<String>,
    /// Clauses of `DF11.md` that decide it; of an invalid one, the rule that is broken.
    pub clauses: Vec<String>,
    /// What an implementation has to do.
    pub result: Outcome,
    /// For invalid ones: the kind of error, as in appendix A.
    pub error: Option<String>,
    /// The file with the unit (or, for encoders, the weights).
    pub file: String,
    /// The prefix of its tensors in the file.
    pub prefix: String,
    /// Number of weights; `null` where there is no sound answer.
    pub elements: Option<usize>,
    /// SHA-256 of the weights, as little-endian BF16; `null` where there is no sound answer.
    pub sha256: Option<String>,
}

impl Vectors {
    /// The vectors that are compiled in.
    ///
    /// # Errors
    ///
    /// If they are damaged, which a test of this crate rules out.
    ///
    /// ```
    /// let vectors = df11_judge::vectors::Vectors::load()?;
    /// assert!(vectors.number_of_tests >= 150);
    /// # Ok::<(), String>(())
    /// ```
    pub fn load() -> Result<Self, String> {
        serde_json::from_str(df11_vectors::DF11).map_err(|error| error.to_string())
    }

    /// What tells one set of vectors from another.
    ///
    /// # Errors
    ///
    /// If the vectors are damaged.
    pub fn fingerprint() -> Result<Fingerprint, String> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct File {
            spec_version: String,
        }
        let version = |text: &str| {
            let file: Result<File, _> = serde_json::from_str(text);
            file.map(|file| file.spec_version).map_err(|error| error.to_string())
        };
        let texts = [
            ("df11.json", df11_vectors::DF11.as_bytes()),
            ("frames.json", df11_vectors::FRAMES.as_bytes()),
            ("delta.json", df11_vectors::DELTA.as_bytes()),
        ];
        let files: std::collections::BTreeMap<String, String> = texts
            .into_iter()
            .chain(df11_vectors::FILES)
            .map(|(name, bytes)| (name.to_owned(), hex::encode(Sha256::digest(bytes))))
            .collect();
        let list: String = files.iter().map(|(name, sha256)| format!("{sha256}  {name}\n")).collect();
        Ok(Fingerprint {
            sha256: hex::encode(Sha256::digest(list.as_bytes())),
            files,
            units: version(df11_vectors::DF11)?,
            frames: version(df11_vectors::FRAMES)?,
            deltas: version(df11_vectors::DELTA)?,
        })
    }

    /// All tests with what is asked in each.
    pub fn tests(&self) -> impl Iterator<Item = (Task, &Test)> {
        self.test_groups.iter().flat_map(|group| group.tests.iter().map(|test| (group.task, test)))
    }
}

impl Test {
    /// The tensors of the test, named without their prefix: the parts of a unit, or `0`, `1`, ...
    /// of weights.
    ///
    /// # Errors
    ///
    /// If the vectors are damaged.
    pub fn tensors(&self) -> Result<Vec<(String, TensorView<'static>)>, String> {
        tensors(&self.file, &self.prefix)
    }

    /// The safetensors file that a program is given: the tensors of the test under `prefix`, but
    /// for what is no part of the question; or, if the test has a part `file`, the bytes of that.
    ///
    /// # Errors
    ///
    /// If the vectors are damaged.
    pub fn file(&self, prefix: &str) -> Result<Vec<u8>, String> {
        let tensors = self.tensors()?;
        if let Some((_, view)) = tensors.iter().find(|(name, _)| name == "file") {
            return Ok(view.data().to_vec());
        }
        let tensors = tensors.into_iter().filter(|(name, _)| name != "all");
        let named = tensors.map(|(name, view)| (format!("{prefix}{name}"), view));
        safetensors::serialize(named, None).map_err(|error| error.to_string())
    }

    /// Whether these are the weights that a decoder has to give, as little-endian bytes.
    #[must_use]
    pub fn is_answer(&self, weights: &[u8]) -> bool {
        is_digest(&self.sha256, weights)
    }

    /// The weights that a decoder has to give, where they are kept (for large units, only their
    /// digest is).
    ///
    /// # Errors
    ///
    /// If the vectors are damaged.
    pub fn weights(&self) -> Result<Option<&'static [u8]>, String> {
        let found = tensors("weights.safetensors", &self.id)?;
        Ok(found.into_iter().find(|(name, _)| name == "all").map(|(_, view)| view.data()))
    }
}

/// Whether bytes have a digest, if there is one.
pub(crate) fn is_digest(expected: &Option<String>, bytes: &[u8]) -> bool {
    Some(hex::encode(Sha256::digest(bytes))) == *expected
}

fn tensors(file: &str, prefix: &str) -> Result<Vec<(String, TensorView<'static>)>, String> {
    let (_, bytes) =
        df11_vectors::FILES.iter().find(|(name, _)| *name == file).ok_or(format!("no file {file}"))?;
    let parsed = SafeTensors::deserialize(bytes).map_err(|error| format!("{file}: {error}"))?;
    let prefix = format!("{prefix}.");
    let mut found: Vec<_> = parsed
        .tensors()
        .into_iter()
        .filter_map(|(name, view)| Some((name.strip_prefix(&prefix)?.to_owned(), view)))
        .collect();
    found.sort_by(|(a, _), (b, _)| a.len().cmp(&b.len()).then_with(|| a.cmp(b)));
    Ok(found)
}

/// A test of a frame, as `frames.json` holds it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FrameTest {
    /// Number, unique among these tests.
    pub tc_id: usize,
    /// Name, unique among these tests.
    pub id: String,
    /// What it is about.
    pub comment: String,
    /// Flags, explained in the notes of the file.
    pub flags: Vec<String>,
    /// Clauses of `FRAME.md`, `RANS.md` and `DICTIONARY.md` that decide it: the rule that is
    /// broken.
    pub clauses: Vec<String>,
    /// What a reader has to do.
    pub result: Outcome,
    /// The kind of error, of those that are refused.
    pub error: Option<String>,
    /// The frame, or the archive, in hexadecimal.
    #[serde(alias = "archive")]
    pub frame: String,
    /// What its elements are; `null` where there is no sound answer.
    pub element_type: Option<String>,
    /// Its dimensions; `null` where there is no sound answer. Archives have none.
    #[serde(default)]
    pub shape: Option<Vec<u64>>,
    /// SHA-256 of its elements; `null` where there is no sound answer.
    pub sha256: Option<String>,
}

impl FrameTest {
    /// The tests that are compiled in.
    ///
    /// # Errors
    ///
    /// If they are damaged, which a test of this crate rules out.
    ///
    /// ```
    /// let tests = df11_judge::vectors::FrameTest::load()?;
    /// assert_eq!(tests[0].bytes()?[..8], df11::frame::MAGIC);
    /// # Ok::<(), String>(())
    /// ```
    pub fn load() -> Result<Vec<Self>, String> {
        FrameTest::load_group("FrameDecode")
    }

    /// The tests of dietgpu's archives that are compiled in, in the same form.
    ///
    /// # Errors
    ///
    /// If they are damaged, which a test of this crate rules out.
    ///
    /// ```
    /// let tests = df11_judge::vectors::FrameTest::load_archives()?;
    /// assert!(tests.iter().all(|test| test.id.starts_with("archive-")));
    /// # Ok::<(), String>(())
    /// ```
    pub fn load_archives() -> Result<Vec<Self>, String> {
        FrameTest::load_group("ArchiveDecode")
    }

    fn load_group(wanted: &str) -> Result<Vec<Self>, String> {
        load_group(df11_vectors::FRAMES, wanted)
    }

    /// Whether these are the elements that a reader has to give.
    #[must_use]
    pub fn is_answer(&self, elements: &[u8]) -> bool {
        is_digest(&self.sha256, elements)
    }

    /// The bytes of the frame.
    ///
    /// # Errors
    ///
    /// If the vectors are damaged.
    pub fn bytes(&self) -> Result<Vec<u8>, String> {
        hex::decode(&self.frame).map_err(|error| format!("{}: {error}", self.id))
    }
}

/// The tests of a group in a file whose groups have tests of several kinds.
fn load_group<T: DeserializeOwned>(file: &str, wanted: &str) -> Result<Vec<T>, String> {
    #[derive(Deserialize)]
    struct File {
        #[serde(rename = "testGroups")]
        groups: Vec<TypedGroup>,
    }
    #[derive(Deserialize)]
    struct TypedGroup {
        #[serde(rename = "type")]
        task: String,
        tests: Vec<serde_json::Value>,
    }
    let file: File = serde_json::from_str(file).map_err(|error| error.to_string())?;
    let tests = file.groups.into_iter().filter(|group| group.task == wanted).flat_map(|group| group.tests);
    tests.map(|test| serde_json::from_value(test).map_err(|error| error.to_string())).collect()
}

/// A test of a delta, as `delta.json` holds it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeltaTest {
    /// Number, unique among these tests.
    pub tc_id: usize,
    /// Name, unique among all tests.
    pub id: String,
    /// What it is about.
    pub comment: String,
    /// Flags, explained in the notes of the file.
    pub flags: Vec<String>,
    /// Clauses of `DELTA.md`, `RANS.md` and `FRAME.md` that decide it: the rule that is broken.
    pub clauses: Vec<String>,
    /// What a reader has to do.
    pub result: Outcome,
    /// The kind of error, of those that are refused.
    pub error: Option<String>,
    /// The delta, in hexadecimal.
    pub delta: String,
    /// The elements of the base, in hexadecimal.
    pub base: String,
    /// What its elements are; `null` where there is no sound answer.
    pub element_type: Option<String>,
    /// SHA-256 of the elements that it gives; `null` where there is no sound answer.
    pub sha256: Option<String>,
}

impl DeltaTest {
    /// The tests that are compiled in.
    ///
    /// # Errors
    ///
    /// If they are damaged, which a test of this crate rules out.
    ///
    /// ```
    /// use df11::delta::Delta;
    /// use df11_judge::vectors::{DeltaTest, Outcome};
    ///
    /// for test in DeltaTest::load()?.iter().filter(|test| test.result == Outcome::Valid) {
    ///     let (delta, base) = test.bytes()?;
    ///     let applied = Delta::new(&delta).and_then(|delta| delta.apply(&base));
    ///     assert!(test.is_answer(&applied.map_err(|error| error.to_string())?));
    /// }
    /// # Ok::<(), String>(())
    /// ```
    pub fn load() -> Result<Vec<Self>, String> {
        load_group(df11_vectors::DELTA, "DeltaDecode")
    }

    /// Whether these are the elements that a reader has to give.
    #[must_use]
    pub fn is_answer(&self, elements: &[u8]) -> bool {
        is_digest(&self.sha256, elements)
    }

    /// The bytes of the delta, and those of the base.
    ///
    /// # Errors
    ///
    /// If the vectors are damaged.
    pub fn bytes(&self) -> Result<(Vec<u8>, Vec<u8>), String> {
        let bytes = |text: &str| hex::decode(text).map_err(|error| format!("{}: {error}", self.id));
        Ok((bytes(&self.delta)?, bytes(&self.base)?))
    }
}

/// The parts of a unit among named tensors; `None` if one is missing.
#[must_use]
pub fn unit<'a>(tensors: &[(String, TensorView<'a>)]) -> Option<Parts<&'a [u8]>> {
    let get = |key: &str| tensors.iter().find(|(name, _)| name == key).map(|(_, view)| view.data());
    Some(Parts {
        luts: get("luts")?,
        encoded_exponent: get("encoded_exponent")?,
        sign_mantissa: get("sign_mantissa")?,
        output_positions: get("output_positions")?,
        gaps: get("gaps")?,
        split_positions: get("split_positions")?,
    })
}

/// The element types of the parts of a unit, in the order of [`PARTS`](df11::PARTS).
pub(crate) const UNIT_TYPES: [Dtype; 6] = [Dtype::U8, Dtype::U8, Dtype::U8, Dtype::U8, Dtype::U8, Dtype::I64];

/// The parts of a unit as tensors of these types, named by their keys, in shapes that fit as well
/// as any.
pub(crate) fn unit_tensors<'a>(
    parts: &'a Parts<Vec<u8>>,
    types: &[Dtype; 6],
) -> Result<Vec<(&'static str, TensorView<'a>)>, String> {
    let list = parts.as_slices().into_array();
    let views = df11::PARTS.iter().zip(list).zip(types).map(|(((key, _), bytes), dtype)| {
        let len = bytes.len();
        let (dtype, shape) = match (*key, *dtype) {
            ("luts", dtype) if len.is_multiple_of(256) => (dtype, vec![len / 256, 256]),
            // What no shape fits is a list of bytes.
            ("split_positions", _) if !len.is_multiple_of(8) => (Dtype::U8, vec![len]),
            ("split_positions", dtype) => (dtype, vec![len / 8]),
            (_, dtype) => (dtype, vec![len]),
        };
        let view = TensorView::new(dtype, shape, bytes).map_err(|error| error.to_string())?;
        Ok((*key, view))
    });
    views.collect()
}
