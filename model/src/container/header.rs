//! Headers: parsing in memory linear in their length, and writing in the form of the safetensors
//! library.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

use super::{LENGTH_BYTES, Tensor};

/// The longest header that the safetensors library reads, in bytes.
pub(crate) const MAX_HEADER: u64 = 100_000_000;

/// A parsed header.
#[derive(Debug)]
pub(crate) struct Header {
    pub(crate) metadata: HashMap<String, String>,
    /// The tensors, in the order of their bytes.
    pub(crate) tensors: Vec<Tensor>,
    /// The total length of all tensors in bytes.
    pub(crate) data_len: u64,
}

/// Parses a header. Checks that its tensors follow one another without gaps and that their lengths
/// match their shapes.
pub(crate) fn parse_header(header: &str) -> Result<Header, String> {
    let wrong = |error: String| format!("the safetensors header is wrong: {error}");
    let Entries { metadata, mut tensors } =
        serde_json::from_str(header).map_err(|error| wrong(error.to_string()))?;
    // Where a name occurs twice, the last entry counts, as in every reader.
    let mut last = HashMap::with_capacity(tensors.len());
    for (i, (name, _)) in tensors.iter().enumerate() {
        last.insert(name.as_str(), i);
    }
    if last.len() < tensors.len() {
        let mut keep = vec![false; tensors.len()];
        last.values().for_each(|&i| keep[i] = true);
        let mut keep = keep.into_iter();
        tensors.retain(|_| keep.next().unwrap_or(false));
    }
    tensors.sort_by(|(a, one), (b, other)| one.data_offsets.cmp(&other.data_offsets).then_with(|| a.cmp(b)));
    let data = LENGTH_BYTES + header.len() as u64;
    let listed = tensors.iter().map(|(name, info)| {
        let (start, end) = info.data_offsets;
        let range = data.saturating_add(start as u64)..data.saturating_add(end as u64);
        Tensor { name: name.clone(), dtype: info.dtype, shape: info.shape.clone(), range }
    });
    let listed = listed.collect();
    let checked = Metadata::new(metadata, tensors).map_err(|error| wrong(error.to_string()))?;
    Ok(Header {
        metadata: checked.metadata().clone().unwrap_or_default(),
        tensors: listed,
        data_len: checked.data_len() as u64,
    })
}

/// The entries of a header, in the order of the text.
#[derive(Default)]
struct Entries {
    metadata: Option<HashMap<String, String>>,
    tensors: Vec<(String, TensorInfo)>,
}

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries = Entries::default();
                while let Some(key) = map.next_key::<String>()? {
                    if key == "__metadata__" {
                        entries.metadata = map.next_value()?;
                    } else {
                        entries.tensors.push((key, map.next_value()?));
                    }
                }
                Ok(entries)
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

/// An entry of a file to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) name: String,
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    pub(crate) bytes: u64,
}

impl Layout {
    pub(crate) fn new(name: String, dtype: Dtype, shape: Vec<usize>) -> Result<Self, String> {
        let bits = shape.iter().try_fold(dtype.bitsize(), |n, &d| n.checked_mul(d));
        let bytes = bits.ok_or_else(|| format!("{name} is too large for a file"))? as u64 / 8;
        Ok(Layout { name, dtype, shape, bytes })
    }

    /// Sorts entries as the safetensors library does: larger element types first, then by name.
    pub(crate) fn sort(entries: &mut [Layout]) {
        entries.sort_by(|a, b| b.dtype.cmp(&a.dtype).then_with(|| a.name.cmp(&b.name)));
    }

    /// Writes the header of a file with these entries, one after the other. Spaces pad it to a
    /// multiple of 8 bytes, or to `len` bytes.
    pub(crate) fn header(
        entries: &[Layout],
        metadata: &BTreeMap<String, String>,
        len: Option<usize>,
    ) -> Result<String, String> {
        let mut names: Vec<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(format!("two tensors would have the name {}", pair[0]));
        }
        let mut header = String::from("{");
        if !metadata.is_empty() {
            header += "\"__metadata__\":";
            header += &json(metadata)?;
        }
        let mut at = 0u64;
        for Layout { name, dtype, shape, bytes } in entries {
            let end = at + bytes;
            let comma = if header.len() > 1 { "," } else { "" };
            let (name, dtype, shape) = (json(name)?, json(dtype)?, json(shape)?);
            header += &format!(
                "{comma}{name}:{{\"dtype\":{dtype},\"shape\":{shape},\"data_offsets\":[{at},{end}]}}"
            );
            at = end;
        }
        header.push('}');
        let padded = len.unwrap_or(0).max(header.len().next_multiple_of(8));
        header.extend(std::iter::repeat_n(' ', padded - header.len()));
        if header.len() as u64 > MAX_HEADER {
            return Err(format!(
                "its header of {} bytes would be longer than safetensors readers accept",
                header.len()
            ));
        }
        Ok(header)
    }

    /// Computes where each entry begins in the file.
    pub(crate) fn starts(entries: &[Layout], header_len: usize) -> Vec<u64> {
        let mut at = LENGTH_BYTES + header_len as u64;
        let start = |entry: &Layout| {
            let start = at;
            at += entry.bytes;
            start
        };
        entries.iter().map(start).collect()
    }
}

/// Serializes a value as JSON.
fn json(value: &impl serde::Serialize) -> Result<String, String> {
    serde_json::to_string(value).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::head;

    #[test]
    fn layout_equals_what_the_safetensors_library_writes() {
        let list = [("b", Dtype::U8, vec![3usize]), ("a", Dtype::U8, vec![2, 2]), ("z", Dtype::I64, vec![1])];
        let data: Vec<u8> = (0..8).collect();
        let views = list.iter().map(|(name, dtype, shape)| {
            let len = shape.iter().product::<usize>() * dtype.bitsize() / 8;
            (*name, safetensors::tensor::TensorView::new(*dtype, shape.clone(), &data[..len]).unwrap())
        });
        let metadata = Some(HashMap::from([("df11".to_owned(), "{}".to_owned())]));
        let theirs = safetensors::serialize(views, metadata).unwrap();

        let mut ours: Vec<_> = list
            .iter()
            .map(|(name, dtype, shape)| Layout::new((*name).to_owned(), *dtype, shape.clone()).unwrap())
            .collect();
        Layout::sort(&mut ours);
        let metadata = BTreeMap::from([("df11".to_owned(), "{}".to_owned())]);
        let header = Layout::header(&ours, &metadata, None).unwrap();
        let head = head(&header);
        assert_eq!(&theirs[..head.len()], head);
        let start = head.len() as u64;
        assert_eq!(Layout::starts(&ours, header.len()), [start, start + 8, start + 12]);
        let parsed = parse_header(&header).unwrap().tensors;
        let ends: Vec<_> = parsed.iter().map(|t| (t.name.as_str(), t.range.end)).collect();
        assert_eq!(ends, [("z", start + 8), ("a", start + 12), ("b", start + 15)]);
        assert_eq!(theirs.len() as u64, start + 15);
    }

    #[test]
    fn of_a_name_that_is_there_twice_the_last_counts() {
        let entry = |from: u32, to: u32| {
            format!("\"a\":{{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[{from},{to}]}}")
        };
        assert!(parse_header(&format!("{{{},{}}}", entry(0, 4), entry(0, 4))).is_ok());
        assert!(parse_header(&format!("{{{},{}}}", entry(0, 4), entry(4, 8))).is_err());
    }
}
