//! Deltas that are refused: each breaks one rule alone, and all lengths and checksums were made
//! right for it.

use df11_reference::delta::{Method, decode, encode};
use df11_reference::frame::{self, Tensor, crc};

use crate::delta_sample::Sample;
use crate::delta_vectors::{About, Deltas, by_exponent, coded, pair};

const FLAGS: &[&str] = &["Malformed", "OneRule"];

/// A change of a sample.
type Change = fn(&mut Sample);

/// A change of the states and the words of a block.
type LaneChange<'a> = &'a dyn Fn(&mut Vec<u8>, &mut Vec<u8>);

/// The delta of `pair(1, 300, 2)` with a map and coded escapes, changed.
fn changed(change: impl Fn(&mut Sample)) -> Vec<u8> {
    of(true, true, change)
}

/// The same, with a map or coded escapes or neither.
fn of(map: bool, escapes: bool, change: impl Fn(&mut Sample)) -> Vec<u8> {
    let (base, new) = pair(1, 300, 2);
    let mut sample = Sample::new(&encode(1, &new, &base, 300, coded(0, map, escapes)).unwrap());
    change(&mut sample);
    sample.bytes()
}

/// Makes the checksum of the header right, which ends here.
fn sealed(mut delta: Vec<u8>, end: usize) -> Vec<u8> {
    let check = crc(0, &delta[..end - 4]);
    delta[end - 4..end].copy_from_slice(&check.to_le_bytes());
    delta
}

/// Deltas of versions that there are not.
pub(crate) fn unsupported(deltas: &mut Deltas) {
    let (base, _) = pair(1, 300, 2);
    for (id, comment, at, value) in [
        ("version", "version 2", 8, 2),
        ("version-0", "version 0", 8, 0),
        ("type", "element type 6", 9, 6),
        ("method", "method 4", 10, 4),
    ] {
        let delta = changed(|sample| sample.front[at] = value);
        deltas.unsupported(&About(id, comment, &["Unsupported"], &["B-1.3"]), &delta, &base);
    }
}

/// Deltas that break a rule.
pub(crate) fn invalid(deltas: &mut Deltas) {
    headers(deltas);
    other_methods(deltas);
    tables(deltas);
    blocks(deltas);
    states(deltas);
    several_blocks(deltas);
    lists(deltas);
    frames(deltas);
    lengths(deltas);
}

/// Fields of the header that all methods have.
fn headers(deltas: &mut Deltas) {
    let (base, _) = pair(1, 300, 2);
    for (id, comment, clause, at, value) in [
        ("magic", "another first byte", "B-3.1", 0, 0x88),
        ("magic-end", "another eighth byte", "B-3.1", 7, 0x0b),
        ("raw", "two raw bytes of two", "B-3.1", 11, 2),
        ("flags", "another bit", "B-3.1", 13, 7),
        ("reserved", "a reserved byte", "B-1.2", 14, 1),
        ("reserved-last", "the last reserved byte", "B-1.2", 15, 128),
        ("common", "more common elements than there are", "B-3.1", 25, 2),
        ("block", "blocks of 4,097", "B-3.1", 32, 1),
    ] {
        let delta = changed(|sample| sample.front[at] = value);
        deltas.invalid(&About(id, comment, FLAGS, &[clause]), &delta, &base);
    }
    for (id, comment, block) in [
        ("block-short", "blocks of 4,032", 4032u32),
        ("block-none", "blocks of no elements", 0),
        ("block-long", "blocks of 1,048,640", (1 << 20) + 64),
    ] {
        let delta = changed(|sample| sample.front[32..36].copy_from_slice(&block.to_le_bytes()));
        deltas.invalid(&About(id, comment, FLAGS, &["B-3.1"]), &delta, &base);
    }
    for (id, comment, escapes, number) in [
        ("no-tables", "no tables", true, 0),
        ("tables-escapes", "eight tables and one of escapes", true, 8),
        ("tables", "nine tables", false, 9),
    ] {
        let delta = of(true, escapes, |sample| {
            sample.front[12] = number;
            let first = sample.tables[0].clone();
            sample.thresholds = (1..number).collect();
            let of_values = usize::from(number);
            let of_escapes = sample.tables.split_off(sample.tables.len() - usize::from(escapes));
            sample.tables = [vec![first; of_values], of_escapes].concat();
        });
        deltas.invalid(&About(id, comment, FLAGS, &["B-3.1"]), &delta, &base);
    }
    let mut damaged = changed(|_| {});
    let end = Sample::new(&damaged).header().len();
    damaged[end - 1] ^= 1;
    let about = About("header-checksum", "one bit of the checksum", FLAGS, &["B-3.1"]);
    deltas.invalid(&about, &damaged, &base);
    let padded = [(true, true), (true, false), (false, true), (false, false)]
        .into_iter()
        .find(|(map, escapes)| Sample::new(&of(*map, *escapes, |_| {})).padded() > 0);
    let (map, escapes) = padded.unwrap();
    let delta = of(map, escapes, |sample| sample.header_padding = 1);
    deltas.invalid(&About("padding", "padding after the header", FLAGS, &["B-1.2"]), &delta, &base);
}

/// Fields that only method 2 has, and numbers of common elements that a method cannot have.
fn other_methods(deltas: &mut Deltas) {
    let (base, new) = pair(1, 300, 2);
    let of =
        |method, common| encode(1, if method == Method::Same { &base } else { &new }, &base, common, method);
    let list = of(Method::List, 300).unwrap();
    let list_end = list.len();
    for (name, delta, end) in [
        ("same", of(Method::Same, 300).unwrap(), 44),
        ("list", list, list_end),
        ("frame", of(Method::Frame(1), 0).unwrap(), 40),
    ] {
        for (field, comment, at) in [
            ("raw", "raw bytes", 11),
            ("tables", "tables", 12),
            ("map", "a map", 13),
            ("block", "blocks", 33),
        ] {
            let mut delta = delta.clone();
            delta[at] = 16;
            let (id, comment) = (format!("{name}-{field}"), format!("{comment} with method {name}"));
            deltas.invalid(&About(&id, &comment, FLAGS, &["B-3.1"]), &sealed(delta, end), &base);
        }
    }
    // Without common elements: the frame has all.
    let tensor = Tensor { element_type: 1, shape: vec![300], elements: new.clone() };
    let all = frame::encode(&tensor, 1).unwrap();
    let mut same = of(Method::Same, 300).unwrap();
    same[24..32].fill(0);
    same[40 - 4..40].fill(0); // The checksum of nothing.
    let same = [&sealed(same, 44)[..], &all].concat();
    let about = About("same-common", "no common elements with method same", FLAGS, &["B-3.2"]);
    deltas.invalid(&about, &same, &base);
    let mut list = encode(1, &base, &base, 300, Method::List).unwrap();
    list[24..32].fill(0);
    list[36..44].fill(0);
    let end = list.len();
    let list = [&sealed(list, end)[..], &all].concat();
    let about = About("list-common", "no common elements with method list", FLAGS, &["B-3.2"]);
    deltas.invalid(&about, &list, &base);
    let coded = changed(|sample| {
        sample.front[24..32].fill(0);
        sample.blocks.clear();
        sample.rest = all.clone();
    });
    let about = About("coded-common", "no common elements with method coded", FLAGS, &["B-3.2"]);
    deltas.invalid(&about, &coded, &base);
    let mut framed = of(Method::Frame(1), 0).unwrap();
    framed[24] = 1;
    let about = About("frame-common", "a common element with method frame", FLAGS, &["B-3.2"]);
    deltas.invalid(&about, &sealed(framed, 40), &base);
    let mut huge = of(Method::Frame(1), 0).unwrap();
    huge[16..24].copy_from_slice(&(1u64 << 63).to_le_bytes());
    let about = About("huge", "2^63 elements of two bytes", &["Malformed"], &["B-3.2"]);
    deltas.invalid(&about, &sealed(huge, 40), &base);
}

/// Tables, thresholds and the frequency of the map.
fn tables(deltas: &mut Deltas) {
    let (base, _) = pair(1, 300, 2);
    let short = |items: &Vec<Vec<u8>>| items.iter().position(|item| item[0] > 1 && item.len() == 1);
    let cases: [(&str, &str, Change); 6] = [
        ("map-frequency", "a frequency of 0", |s| s.map = Some(0)),
        ("map-all", "a frequency of 2,048", |s| s.map = Some(2048)),
        ("table-sum", "frequencies of 2,049", |s| {
            let last = s.tables[0].last_mut().unwrap();
            assert!(last.len() == 1 && last[0] < 127, "{last:?}");
            last[0] += 1;
        }),
        ("table-great", "a frequency that is too great", |s| {
            s.tables[0][0] = vec![255, 0];
        }),
        ("table-end", "a table that goes on after symbol 255", |s| {
            s.tables[0] = vec![vec![0, 255], vec![136, 0]];
        }),
        ("table-escapes", "a table of escapes of 2,049", |s| {
            s.tables.last_mut().unwrap()[0] = vec![255, 0];
        }),
    ];
    for (id, comment, change) in cases {
        deltas.invalid(&About(id, comment, FLAGS, &["B-5.4"]), &changed(change), &base);
    }
    let delta = changed(|sample| {
        let at = short(&sample.tables[0]).unwrap();
        let byte = sample.tables[0][at][0];
        sample.tables[0][at] = vec![128, byte];
    });
    let about = About("table-two-bytes", "a frequency below 128 in two bytes", FLAGS, &["B-5.4"]);
    deltas.invalid(&about, &delta, &base);
    let delta = changed(|sample| {
        let items =
            sample.tables.iter_mut().find(|items| items.iter().any(|item| item[0] == 0 && item[1] > 0));
        let items = items.unwrap();
        let at = items.iter().position(|item| item[0] == 0 && item[1] > 0).unwrap();
        let rest = items[at][1] - 1;
        items.splice(at..=at, [vec![0, 0], vec![0, rest]]);
    });
    deltas.invalid(&About("table-runs", "a run after a run", FLAGS, &["B-5.4"]), &delta, &base);

    let (base, new) = by_exponent(1, 3000);
    let many = encode(1, &new, &base, 3000, coded(0, false, false)).unwrap();
    let cases: [(&str, &str, Change); 3] = [
        ("threshold", "a threshold of 0", |s| s.thresholds[0] = 0),
        ("thresholds-same", "two thresholds of one exponent", |s| s.thresholds[1] = s.thresholds[0]),
        ("thresholds-turned", "thresholds in another order", |s| s.thresholds.swap(0, 1)),
    ];
    for (id, comment, change) in cases {
        let mut sample = Sample::new(&many);
        change(&mut sample);
        deltas.invalid(&About(id, comment, FLAGS, &["B-5.4"]), &sample.bytes(), &base);
    }
}

/// Numbers and checksums of a block.
fn blocks(deltas: &mut Deltas) {
    let (base, _) = pair(1, 300, 2);
    let cases: [(&str, &str, &str, Change); 8] = [
        ("coded-less", "an element less than the map says", "B-5.8", |s| s.blocks[0].coded -= 1),
        ("coded-more", "an element more than the map says", "B-5.8", |s| s.blocks[0].coded += 1),
        ("escapes-less", "an escape less than there are", "B-5.8", |s| {
            let block = &mut s.blocks[0];
            block.escapes -= 1;
            let len = block.escape_bytes.len() - 1;
            block.escape_bytes.truncate(len);
        }),
        ("escapes-more", "an escape more than there are", "B-5.8", |s| {
            let block = &mut s.blocks[0];
            block.escapes += 1;
            block.escape_bytes.push(0);
        }),
        ("base-checksum", "another checksum of the base", "B-5.5", |s| s.blocks[0].base ^= 1),
        ("result", "another checksum of the result", "B-5.5", |s| s.blocks[0].result ^= 1),
        ("block-checksum", "a checksum with another seed", "B-5.5", |s| s.blocks[0].seed = 1),
        ("escape", "another byte of an escape", "B-5.5", |s| s.blocks[0].escape_bytes[0] ^= 1),
    ];
    for (id, comment, clause, change) in cases {
        deltas.invalid(&About(id, comment, FLAGS, &[clause]), &changed(change), &base);
    }
    let delta = of(false, false, |sample| sample.blocks[0].escape_words = vec![0, 0]);
    let about = About("words-of-uncoded", "words of escapes that are not coded", FLAGS, &["B-5.5"]);
    deltas.invalid(&about, &delta, &base);
    let mut sample = Sample::new(&encode(1, &base, &base, 300, coded(0, false, true)).unwrap());
    sample.blocks[0].escape_words = vec![0, 0];
    let about = About("words-of-no-escape", "words of escapes without an escape", FLAGS, &["B-5.5"]);
    deltas.invalid(&about, &sample.bytes(), &base);
    let is_padded = |sample: &Sample| {
        let block = &sample.blocks[0];
        let parts = [&block.words, &block.escape_words, &block.escape_bytes, &block.raw];
        parts.iter().map(|part| part.len()).sum::<usize>() % 4 > 0
    };
    let (map, escapes) = [(true, true), (true, false), (false, true), (false, false)]
        .into_iter()
        .find(|(map, escapes)| is_padded(&Sample::new(&of(*map, *escapes, |_| {}))))
        .unwrap();
    let delta = of(map, escapes, |sample| sample.block_padding = 1);
    deltas.invalid(&About("block-padding", "padding after a block", FLAGS, &["B-1.2"]), &delta, &base);
}

/// States and words of a block, and of its escapes.
fn states(deltas: &mut Deltas) {
    let (base, _) = pair(1, 300, 2);
    let put = |states: &mut Vec<u8>, lane: usize, state: u32| {
        states[4 * lane..4 * lane + 4].copy_from_slice(&state.to_le_bytes());
    };
    let cases: [(&str, &str, &str, LaneChange<'_>); 5] = [
        ("state-low", "a state below 2^15", "R-5.3", &|states, _| put(states, 0, (1 << 15) - 1)),
        ("state-high", "a state of 2^31", "R-5.3", &|states, _| put(states, 31, 1 << 31)),
        ("words-left", "a word that no lane takes", "R-5.4", &|_, words| {
            words.splice(0..0, [0, 0]);
        }),
        ("words-missing", "a word less than lanes take", "R-5.4", &|_, words| {
            words.splice(0..2, []);
        }),
        ("words-none", "no words", "R-5.4", &|_, words| words.clear()),
    ];
    for (id, comment, clause, change) in cases {
        let delta = changed(|sample| {
            let block = &mut sample.blocks[0];
            change(&mut block.states, &mut block.words);
        });
        deltas.invalid(&About(id, comment, FLAGS, &[clause, "B-5.8"]), &delta, &base);
        let (base, delta) = far(|sample| {
            let block = &mut sample.blocks[0];
            change(&mut block.escape_states, &mut block.escape_words);
        });
        let (id, comment) = (format!("escape-{id}"), format!("{comment}, of escapes"));
        deltas.invalid(&About(&id, &comment, FLAGS, &[clause, "B-5.9"]), &delta, &base);
    }
    // States that take as many words, and end elsewhere.
    let is_end = |delta: &[u8], base: &[u8]| decode(delta, base).is_err_and(|error| error.clause == "R-5.5");
    let lanes = || (0..32).flat_map(|lane| (1..32).map(move |step| (lane, 2048 * step)));
    let more = |states: &mut Vec<u8>, (lane, by): (usize, u32)| {
        let state = u32::from_le_bytes(states[4 * lane..4 * lane + 4].try_into().unwrap());
        put(states, lane, state + by);
    };
    let end = lanes().map(|lane| changed(|sample| more(&mut sample.blocks[0].states, lane)));
    let delta = end.into_iter().find(|delta| is_end(delta, &base)).unwrap();
    let comment = "a lane that ends in another state";
    deltas.invalid(&About("state-end", comment, FLAGS, &["R-5.5", "B-5.8"]), &delta, &base);
    let end = lanes().map(|lane| far(|sample| more(&mut sample.blocks[0].escape_states, lane)));
    let (base, delta) = end.into_iter().find(|(base, delta)| is_end(delta, base)).unwrap();
    let comment = "a lane that ends in another state, of escapes";
    deltas.invalid(&About("escape-state-end", comment, FLAGS, &["R-5.5", "B-5.9"]), &delta, &base);
}

/// A delta with many escapes, which have words, and its base.
fn far(change: impl Fn(&mut Sample)) -> (Vec<u8>, Vec<u8>) {
    let (base, _) = pair(1, 400, 2);
    let mut new = pair(1, 401, 2).0;
    new.truncate(800);
    let mut sample = Sample::new(&encode(1, &new, &base, 400, coded(0, false, true)).unwrap());
    assert!(sample.blocks[0].escape_words.len() > 2);
    change(&mut sample);
    (base, sample.bytes())
}

/// What tells blocks apart.
fn several_blocks(deltas: &mut Deltas) {
    let (base, new) = pair(0, 4096 + 300, 3);
    let sound = Sample::new(&encode(0, &new, &base, 4396, coded(0, false, false)).unwrap());
    let cases: [(&str, &str, Change); 4] = [
        ("seed", "the second block with the seed of the first", |s| s.blocks[1].seed = 0),
        ("second-result", "another result of the second block", |s| s.blocks[1].result ^= 1),
        ("swapped", "the checksums of the bases exchanged", |s| {
            let [first, second] = &mut s.blocks[..] else { panic!() };
            std::mem::swap(&mut first.base, &mut second.base);
        }),
        ("second-words", "a bit in the second block", |s| {
            let seal = s.blocks[1].clone();
            s.blocks[1].words[0] ^= 1;
            s.blocks[1].seed = seal.seed + 1;
        }),
    ];
    for (id, comment, change) in cases {
        let mut sample = sound.clone();
        change(&mut sample);
        let (id, flags) = (format!("blocks-{id}"), FLAGS);
        deltas.invalid(&About(&id, comment, flags, &["B-5.5"]), &sample.bytes(), &base);
    }
}

fn lists(deltas: &mut Deltas) {
    let (base, new) = pair(1, 300, 2);
    let list = encode(1, &new, &base, 300, Method::List).unwrap();
    let mut with = |id: &str, comment: &str, clause: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = list.clone();
        change(&mut bytes);
        let end = bytes.len();
        deltas.invalid(&About(id, comment, FLAGS, &[clause]), &sealed(bytes, end), &base);
    };
    with("list-beyond", "an entry after the last element", "B-4.2", &|bytes| {
        let last = bytes.len() - 7;
        bytes[last] = 127;
    });
    // The first number is in byte 48, and below 128.
    with("list-number", "a number that ends in 0", "B-2.3", &|bytes| {
        bytes.splice(48..49, [bytes[48] | 128, 0]);
    });
    with("list-number-long", "a number of six bytes", "B-2.3", &|bytes| {
        bytes.splice(48..49, [bytes[48] | 128, 128, 128, 128, 128, 1]);
    });
    with("list-number-great", "a number of 2^32", "B-2.3", &|bytes| {
        bytes.splice(48..49, [128, 128, 128, 128, 16]);
    });
    with("list-base", "another checksum of the base", "B-4.2", &|bytes| bytes[36] ^= 1);
    with("list-result", "another checksum of the result", "B-4.2", &|bytes| bytes[40] ^= 1);
    with("list-element", "another element", "B-4.2", &|bytes| bytes[49] ^= 1);
    with("list-less", "an entry less than is stated", "B-3.1", &|bytes| bytes[44] -= 1);
    let mut same = encode(1, &base, &base, 300, Method::Same).unwrap();
    same[36] ^= 1;
    let about = About("same-checksum", "another checksum of the elements", FLAGS, &["B-4.1"]);
    deltas.invalid(&about, &sealed(same, 44), &base);
}

/// The frame that a delta ends with.
fn frames(deltas: &mut Deltas) {
    let (base, new) = pair(1, 300, 2);
    let framed = encode(1, &new, &base, 0, Method::Frame(1)).unwrap();
    let frame_of = |element_type, shape: &[u64], elements: &[u8], codec| {
        let (shape, elements) = (shape.to_vec(), elements.to_vec());
        frame::encode(&Tensor { element_type, shape, elements }, codec).unwrap()
    };
    let all = [300];
    let fine = frame_of(1, &all, &new, 1);
    let mut damaged = fine.clone();
    let end = damaged.len();
    damaged[end - 9] ^= 1;
    for (id, comment, frame, clause) in [
        ("dictionary", "a frame of codec dictionary", frame_of(1, &all, &new, 3), "B-3.2"),
        ("frame-short", "a frame of 299 elements", frame_of(1, &[299], &new[2..], 1), "B-3.2"),
        ("frame-type", "a frame of F16", frame_of(2, &all, &new, 1), "B-3.2"),
        ("frame-rank", "a frame of two dimensions", frame_of(1, &[3, 100], &new, 1), "B-3.2"),
        ("frame-damaged", "a frame whose trailer is another", damaged, "F-6.2"),
        ("frame-cut", "no frame", Vec::new(), "F-3.1"),
    ] {
        let delta = [&framed[..40], &frame].concat();
        let clauses: &[&str] = if clause == "B-3.2" { &["B-3.2", "B-4.3"] } else { &[clause, "B-4.3"] };
        deltas.invalid(&About(id, comment, FLAGS, clauses), &delta, &base);
        if id == "frame-short" {
            // As the last part of a tensor that has grown by 300.
            let grown = encode(1, &[&base[..], &new].concat(), &base, 300, Method::Same).unwrap();
            let delta = [&grown[..44], &frame].concat();
            let comment = "the frame of the grown part has 299 elements";
            deltas.invalid(&About("grown-short", comment, FLAGS, &["B-3.2"]), &delta, &base);
        }
    }
    let less = [&framed[..], &[0]].concat();
    let about =
        About("frame-longer", "a byte after the frame", &["Malformed", "Length"], &["F-6.2", "B-3.3"]);
    deltas.invalid(&about, &less, &base);
}

/// Bytes that are missing, or too many.
fn lengths(deltas: &mut Deltas) {
    let flags = &["Malformed", "Length"];
    let (base, new) = pair(1, 300, 2);
    let whole = changed(|_| {});
    let end = Sample::new(&whole).header().len();
    for (id, comment, len, clause) in [
        ("no-bytes", "no bytes", 0, "B-3.1"),
        ("cut-magic", "seven bytes", 7, "B-3.1"),
        ("cut-fields", "35 bytes", 35, "B-3.1"),
        ("cut-table", "the first table is cut", 46, "B-5.4"),
        ("cut-directory", "the directory is cut", end - 5, "B-5.4"),
        ("cut-checksum", "the checksum of the header is cut", end - 1, "B-3.1"),
        ("cut-block", "no byte of the block", end.next_multiple_of(4), "B-5.6"),
        ("cut-end", "four bytes less", whole.len() - 4, "B-5.6"),
    ] {
        deltas.invalid(&About(id, comment, flags, &[clause]), &whole[..len], &base);
    }
    let list = encode(1, &new, &base, 300, Method::List).unwrap();
    let same = encode(1, &base, &base, 300, Method::Same).unwrap();
    let cut = &list[..list.len() - 5];
    deltas.invalid(&About("cut-list", "the last entry is cut", flags, &["B-4.2"]), cut, &base);
    deltas.invalid(&About("cut-same", "39 bytes", flags, &["B-4.1"]), &same[..39], &base);
    for (id, delta) in [("coded", &whole), ("list", &list), ("same", &same)] {
        let longer = [&delta[..], &[0; 4]].concat();
        let (id, comment) = (format!("longer-{id}"), "four bytes more");
        deltas.invalid(&About(&id, comment, flags, &["B-3.3"]), &longer, &base);
    }
}
