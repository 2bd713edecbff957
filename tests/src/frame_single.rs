//! Frames of codecs raw and rANS that say what others do not: every size of a field, and damage that
//! breaks one rule alone.

use df11::frame::ElementType;
use df11_reference::frame::{Coding, encode, encode_as};
use df11_reference::rans::Frequencies;

use crate::frame_pieces::{Pieces, WORDS};
use crate::frame_vectors::{Frames, tensor, u8s};
use crate::weights::{bytes, like_trained};

pub(crate) fn single_frames(frames: &mut Frames) {
    blocks(frames);
    fields(frames);
    header(frames);
    frequencies(frames);
    checksums(frames);
    padding(frames);
    states_and_words(frames);
    numbers(frames);
}

fn counts(symbols: &[u8]) -> [u64; 256] {
    let mut counts = [0; 256];
    symbols.iter().for_each(|symbol| counts[usize::from(*symbol)] += 1);
    counts
}

fn rans(symbols: &[u8], scale_bits: u32) -> Coding {
    Coding::Rans(Box::new(Frequencies::normalise(&counts(symbols), scale_bits)))
}

/// Three blocks of 4,096 elements at most, two of them full.
fn blocks(frames: &mut Frames) {
    let trained = bytes(&like_trained(18_000, 1));
    for element_type in ElementType::ALL {
        let name = element_type.name().to_lowercase();
        let elements = &trained[..9000 * element_type.bytes()];
        let some = tensor(element_type, &[90, 100], elements);
        let coded = df11::frame::count(element_type, elements).unwrap();
        let coding = Coding::Rans(Box::new(Frequencies::normalise(&coded, 12)));
        let frame = encode_as(&some, &coding, 4096).unwrap();
        let clauses = &["F-5.1", "F-5.2", "F-4.2", "F-6.1", "R-3.1", "R-4.1", "R-5.1"];
        frames.valid(&format!("blocks-{name}-rans"), "three blocks", &["Blocks"], clauses, &some, &frame);
    }
    for element_type in [ElementType::U8, ElementType::Bf16] {
        let name = element_type.name().to_lowercase();
        let some = tensor(element_type, &[9000], &trained[..9000 * element_type.bytes()]);
        let frame = encode_as(&some, &Coding::Raw, 4096).unwrap();
        let clauses = &["F-5.1", "F-5.2", "F-6.1"];
        frames.valid(&format!("blocks-{name}-raw"), "three raw blocks", &["Blocks"], clauses, &some, &frame);
    }
    for (block, n) in [(4160, 9000), (4096, 4096), (4096, 4097), (4096, 8192), (65_472, 65_473)] {
        let some = tensor(ElementType::U8, &[n], &u8s(n as usize));
        let frame = encode_as(&some, &rans(&some.elements, 12), block).unwrap();
        let comment = format!("{n} elements in blocks of {block}");
        let id = format!("blocks-of-{block}-{n}");
        frames.valid(&id, &comment, &["Blocks"], &["F-3.1", "F-5.1"], &some, &frame);
    }
}

/// Every value of the header's fields.
fn fields(frames: &mut Frames) {
    for scale_bits in [9, 10, 11, 12] {
        let some = tensor(ElementType::U8, &[1000], &u8s(1000));
        let frame = encode_as(&some, &rans(&some.elements, scale_bits), 65_536).unwrap();
        let comment = format!("{scale_bits} scale bits");
        let id = format!("scale-bits-{scale_bits}");
        frames.valid(&id, &comment, &["Field"], &["R-2.1", "R-2.2", "R-2.4"], &some, &frame);
    }
    let mut shape = [1; 32];
    (shape[3], shape[31]) = (5, 8);
    let some = tensor(ElementType::U8, &shape, &u8s(40));
    for (codec, name) in [(0, "raw"), (1, "rans")] {
        let frame = encode(&some, codec).unwrap();
        let clauses = &["F-3.1", "F-3.2"];
        frames.valid(&format!("rank-32-{name}"), "32 dimensions", &["Field"], clauses, &some, &frame);
    }
    let huge = tensor(ElementType::F32, &[1 << 40, 1 << 40, 0], &[]);
    let frame = Pieces::of(&encode(&tensor(ElementType::F32, &[1, 1, 0], &[]), 0).unwrap())
        .with_header(32, &(1u64 << 40).to_le_bytes())
        .with_header(40, &(1u64 << 40).to_le_bytes());
    let comment = "dimensions whose product is more than 2^64 but for one of 0";
    frames.valid("empty-huge", comment, &["Field"], &["F-3.2"], &huge, &frame.frame());
    let some = tensor(ElementType::Bf16, &[300], &bytes(&like_trained(300, 1)));
    let mut pieces = Pieces::of(&encode(&some, 1).unwrap());
    pieces.digest = [1, 2, 3, 4];
    let comment = "only the digest is wrong, which a plain decode does not compare";
    frames.valid("digest-wrong", comment, &["Field"], &["F-6.3"], &some, &pieces.frame());
    // A symbol that does not occur has a frequency, as other writers may give it.
    let symbols = u8s(300);
    let mut unused = counts(&symbols);
    (unused[0], unused[255]) = (1, 1);
    let some = tensor(ElementType::U8, &[300], &symbols);
    let coding = Coding::Rans(Box::new(Frequencies::normalise(&unused, 12)));
    let frame = encode_as(&some, &coding, 65_536).unwrap();
    let comment = "symbols 0 and 255 have a frequency and do not occur";
    frames.valid("frequency-unused", comment, &["Field"], &["R-2.2", "R-2.5", "F-3.3"], &some, &frame);
}

/// The header, with its checksum made right.
fn header(frames: &mut Frames) {
    let coded =
        Pieces::of(&encode(&tensor(ElementType::Bf16, &[300], &bytes(&like_trained(300, 1))), 1).unwrap());
    let raw = Pieces::of(&encode(&tensor(ElementType::U8, &[40], &u8s(40)), 0).unwrap());
    for (id, at, value) in [
        ("version-0", 8, 0u8),
        ("version-255", 8, 255),
        ("element-type-255", 9, 255),
        ("codec-4", 10, 4),
        ("codec-255", 10, 255),
        ("model-255", 11, 255),
    ] {
        let comment = "a number that this version does not know";
        frames.unsupported(id, comment, &["F-1.3", "F-1.4"], &coded.with_header(at, &[value]).frame());
    }
    let mut frame = coded.with_header(8, &[2]).frame();
    let at = coded.header.len().next_multiple_of(4);
    frame[at] ^= 1;
    let comment = "version 2, and a wrong checksum of the header: the version counts first";
    frames.unsupported("version-2-checksum", comment, &["F-1.3"], &frame);
    let mut invalid = |id: &str, comment: &str, clause, pieces: &Pieces| {
        frames.invalid(id, comment, &["OneRule"], &[clause], &pieces.frame());
    };
    for (id, at, value) in [("reserved-14", 14, 1u8), ("reserved-28", 28, 1), ("reserved-31", 31, 0x80)] {
        let comment = "a reserved byte of the header is not 0";
        invalid(id, comment, "F-1.2", &coded.with_header(at, &[value]));
    }
    for (id, block) in [
        ("block-size-4032", 4032u32),
        ("block-size-65600", 65_600),
        ("block-size-4100", 4100),
        ("block-size-0", 0),
        ("block-size-2-16-more", 65_536 + 4096),
    ] {
        let comment = format!("blocks of {block}");
        invalid(id, &comment, "F-3.1", &raw.with_header(24, &block.to_le_bytes()));
    }
    invalid("raw-with-scale-bits", "codec raw with scale bits", "F-3.3", &raw.with_header(12, &[12]));
    let mut model = raw.clone();
    (model.header[11], model.header[12]) = (1, 12);
    model.header.extend([0; 32]);
    model.header[40] = 1;
    model.header.extend(4096u16.to_le_bytes());
    invalid("raw-with-model", "codec raw with a table of frequencies", "F-3.3", &model);
    let mut rans = raw.clone();
    rans.header[10] = 1;
    invalid("rans-without-model", "codec rANS without a table of frequencies", "F-3.3", &rans);
    let mut empty = model.clone();
    empty.header[10] = 1;
    empty.header[16..24].fill(0);
    empty.header[32..40].fill(0);
    empty.blocks.clear();
    invalid("empty-with-rans", "no elements, and codec rANS", "F-3.3", &empty);
    // Dimensions.
    let mut product = Pieces::of(&encode(&tensor(ElementType::U8, &[1, 0], &[]), 0).unwrap());
    product.header[32..48].copy_from_slice(&[(1u64 << 32).to_le_bytes(); 2].concat());
    invalid("product-2-64", "dimensions of 2^32 and 2^32, and no elements", "F-3.2", &product);
    let mut bytes = Pieces::of(&encode(&tensor(ElementType::Bf16, &[0], &[]), 0).unwrap());
    for at in [16, 32] {
        bytes.header[at..at + 8].copy_from_slice(&(1u64 << 63).to_le_bytes());
    }
    invalid("bytes-2-64", "2^63 elements of two bytes", "F-3.2", &bytes);
    let mut scalar = Pieces::of(&encode(&tensor(ElementType::U8, &[100], &u8s(100)), 0).unwrap());
    scalar.header[13] = 0;
    scalar.header.truncate(32);
    invalid("rank-0-of-100", "rank 0 with 100 elements", "F-3.2", &scalar);
    let mut zero = Pieces::of(&encode(&tensor(ElementType::U8, &[5, 8], &u8s(40)), 0).unwrap());
    zero.header[32..40].fill(0);
    invalid("dimension-0-of-40", "a dimension of 0, and 40 elements", "F-3.2", &zero);
    let mut modulo = Pieces::of(&encode(&tensor(ElementType::U8, &[5, 8], &u8s(40)), 0).unwrap());
    modulo.header[36] = 1;
    invalid("product-modulo-2-32", "the product is 40 modulo 2^32", "F-3.2", &modulo);
}

/// The table of frequencies.
fn frequencies(frames: &mut Frames) {
    let symbols = u8s(300);
    let of = |scale_bits: u32, more: &[(usize, u64)]| {
        let mut all = counts(&symbols);
        more.iter().for_each(|(symbol, count)| all[*symbol] = *count);
        let coding = Coding::Rans(Box::new(Frequencies::normalise(&all, scale_bits)));
        Pieces::of(&encode_as(&tensor(ElementType::U8, &[300], &symbols), &coding, 65_536).unwrap())
    };
    for scale_bits in [8, 13] {
        let comment = format!("{scale_bits} scale bits, with frequencies that add up");
        let id = format!("scale-bits-{scale_bits}-right-sum");
        frames.invalid(&id, &comment, &["OneRule"], &["R-2.1"], &of(scale_bits, &[]).frame());
    }
    // Symbol 255 is the last: what it takes or gives is at the end of all slots.
    let with = of(12, &[(255, 1)]);
    let k = (with.header.len() - 72) / 2;
    let last = 72 + 2 * (k - 1);
    let mut less = with.clone();
    less.header.truncate(last);
    less.header[40 + 31] = 0;
    frames.invalid("frequency-sum-less", "the sum is less than 2^P", &["OneRule"], &["R-2.2"], &less.frame());
    let more = with.with_header(last, &[with.header[last] + 1]);
    frames.invalid("frequency-sum-more", "the sum is more than 2^P", &["OneRule"], &["R-2.2"], &more.frame());
    let mut zero = of(12, &[]);
    zero.header[40 + 31] |= 0x80;
    zero.header.extend([0, 0]);
    let comment = "the alphabet has a symbol of frequency 0";
    frames.invalid("frequency-0", comment, &["OneRule"], &["F-3.3"], &zero.frame());
}

/// A checksum alone.
fn checksums(frames: &mut Frames) {
    let some = tensor(ElementType::U8, &[9000], &u8s(9000));
    let pieces = Pieces::of(&encode_as(&some, &rans(&some.elements, 12), 4096).unwrap());
    let frame = pieces.frame();
    let end = frame.len();
    let directory = end - 24 - 3 * 12;
    let crc_at = pieces.header.len().next_multiple_of(4);
    let mut damaged = |id: &str, comment: &str, clauses: &str, at: usize, repair: bool| {
        let mut frame = frame.clone();
        frame[at] ^= 1;
        if repair {
            let checksum = df11_reference::frame::crc(0, &frame[directory..end - 4]);
            frame[end - 4..].copy_from_slice(&checksum.to_le_bytes());
        }
        let clauses: Vec<&str> = clauses.split(' ').collect();
        frames.invalid(id, comment, &["OneRule"], &clauses, &frame);
    };
    damaged("crc-of-header", "only the header's checksum is wrong", "F-3.1", crc_at, false);
    damaged("crc-of-header-high", "only the header's checksum is wrong", "F-3.1", crc_at + 3, false);
    damaged("crc-of-trailer", "only the trailer's checksum is wrong", "F-6.2", end - 1, false);
    let comment = "the checksum of block 1 in the directory is wrong";
    damaged("crc-in-directory", comment, "F-5.2 F-6.1", directory + 12 + 8, true);
    damaged("offset-in-directory", "the offset of block 1 is wrong", "F-6.1", directory + 12, true);
    let comment = "the offset of block 2 is wrong, by 2^56";
    damaged("offset-in-directory-high", comment, "F-6.2 F-6.1", directory + 24 + 7, true);
    damaged("offset-of-directory", "the offset of the directory is wrong", "F-6.2", end - 24, true);
    damaged("offset-of-directory-high", "the same, by 2^56", "F-6.2", end - 17, true);
    damaged("number-of-blocks-high", "the number of blocks is wrong, by 2^56", "F-6.2", end - 9, true);
    let comment = "the digest is wrong, and the trailer's checksum is of the right one";
    damaged("digest-and-crc", comment, "F-6.2", end - 8, false);
    // Blocks.
    one_block(frames);
    let raw = Pieces::of(&encode_as(&some, &Coding::Raw, 4096).unwrap());
    let mut exchanged = raw.clone();
    exchanged.blocks.swap(0, 1);
    exchanged.seeds.swap(0, 1);
    let comment = "two raw blocks were exchanged, with their checksums";
    frames.invalid("blocks-exchanged", comment, &["OneRule"], &["F-5.2"], &exchanged.frame());
    let mut unseeded = raw.clone();
    unseeded.seeds.fill(0);
    let comment = "checksums of blocks all begin with 0";
    frames.invalid("seeds-0", comment, &["OneRule"], &["F-5.2"], &unseeded.frame());
    let mut coded = pieces.clone();
    coded.seeds[2] = 0;
    let comment = "the checksum of the last block begins with 0, that of the others with their number";
    frames.invalid("seed-of-last", comment, &["OneRule"], &["F-5.2"], &coded.frame());
    let other = pieces.with_block(2, 4, &[pieces.blocks[2][4] ^ 0x80]);
    let comment = "the checksum of the last block's coded bytes is wrong";
    frames.invalid("coded-checksum-last", comment, &["OneRule"], &["F-5.4"], &other.frame());
}

/// The same of a frame of one block, as most are.
fn one_block(frames: &mut Frames) {
    let some = tensor(ElementType::Bf16, &[300], &bytes(&like_trained(300, 1)));
    let pieces = Pieces::of(&encode(&some, 1).unwrap());
    let frame = pieces.frame();
    let end = frame.len();
    for (id, comment, clause, at, repair) in [
        (
            "one-crc-of-header",
            "the header's checksum",
            "F-3.1",
            pieces.header.len().next_multiple_of(4),
            false,
        ),
        ("one-crc-of-trailer", "the trailer's checksum", "F-6.2", end - 2, false),
        ("one-crc-in-directory", "the checksum in the directory", "F-5.2 F-6.1", end - 28, true),
        ("one-offset-in-directory", "the offset in the directory", "F-6.1", end - 36, true),
        ("one-offset-of-directory", "the offset of the directory", "F-6.2", end - 24, true),
        ("one-number-of-blocks", "the number of blocks", "F-6.2", end - 16, true),
        ("one-digest-and-crc", "the digest", "F-6.2", end - 8, false),
    ] {
        let mut frame = frame.clone();
        frame[at] ^= 1;
        if repair {
            let checksum = df11_reference::frame::crc(0, &frame[end - 36..end - 4]);
            frame[end - 4..].copy_from_slice(&checksum.to_le_bytes());
        }
        let clauses: Vec<&str> = clause.split(' ').collect();
        let comment = format!("one block, and only {comment} is wrong");
        frames.invalid(id, &comment, &["OneRule"], &clauses, &frame);
    }
}

/// Bytes that must be 0, and are not.
fn padding(frames: &mut Frames) {
    // Three symbols: two bytes before the header's checksum.
    let three: Vec<u8> = (0..30).map(|i| i % 3).collect();
    let odd = Pieces::of(&encode(&tensor(ElementType::U8, &[30], &three), 1).unwrap());
    let mut before = odd.clone();
    assert_eq!(before.header.len() % 4, 2);
    before.header.push(1);
    let comment = "padding before the header's checksum is not 0";
    frames.invalid("padding-before-crc", comment, &["OneRule"], &["F-1.2"], &before.frame());
    let at = odd.header.len().next_multiple_of(4) + 4;
    assert!(!at.is_multiple_of(16));
    for (id, at) in [("padding-after-crc", at), ("padding-after-crc-last", at.next_multiple_of(16) - 1)] {
        let mut frame = odd.frame();
        frame[at] = 1;
        let comment = "padding after the header's checksum is not 0";
        frames.invalid(id, comment, &["OneRule"], &["F-1.2"], &frame);
    }
    let of = |n: usize| {
        let some = tensor(ElementType::Bf16, &[n as u64], &bytes(&like_trained(n, 1)));
        Pieces::of(&encode(&some, 1).unwrap())
    };
    let words_of = |pieces: &Pieces| u32::from_le_bytes(*pieces.blocks[0].first_chunk().unwrap()) as usize;
    let coded = (300..400).map(of).find(|pieces| words_of(pieces) % 16 == 4).unwrap();
    let words = words_of(&coded);
    for (id, at) in [
        ("padding-after-words", WORDS + words),
        ("padding-after-words-last", (4 + WORDS + words).next_multiple_of(16) - 5),
    ] {
        let comment = "padding after the words is not 0";
        frames.invalid(id, comment, &["OneRule"], &["F-1.2"], &coded.with_block(0, at, &[1]).frame());
    }
    let last = coded.blocks[0].len() - 1;
    let comment = "padding after the raw part is not 0";
    frames.invalid(
        "padding-after-raw",
        comment,
        &["OneRule"],
        &["F-1.2"],
        &coded.with_block(0, last, &[1]).frame(),
    );
    for at in [8, 11] {
        let id = format!("reserved-in-block-{at}");
        let comment = "a reserved byte of a block is not 0";
        let frame = coded.with_block(0, at, &[1]).frame();
        frames.invalid(&id, comment, &["OneRule"], &["F-1.2"], &frame);
    }
}

/// States and words.
fn states_and_words(frames: &mut Frames) {
    let twenty = Pieces::of(&encode(&tensor(ElementType::U8, &[20], &u8s(20)), 1).unwrap());
    let lane = |lane: usize| 12 + 4 * lane;
    for (id, comment, clause, state) in [
        ("idle-state-one-more", "a lane without a symbol has the start state and 1", "R-5.5", 0x8001u32),
        ("idle-state-less", "a lane without a symbol has less than the start state", "R-5.3", 0x7fff),
        ("idle-state-0", "a lane without a symbol has state 0", "R-5.3", 0),
        ("idle-state-high", "a lane without a symbol has the start state and 2^31", "R-5.3", 0x8000_8000),
        ("idle-state-largest", "a lane without a symbol has state 2^31 - 1", "R-5.5", 0x7fff_ffff),
    ] {
        for idle in [20, 31] {
            let id = format!("{id}-{idle}");
            let frame = twenty.with_block(0, lane(idle), &state.to_le_bytes()).frame();
            frames.invalid(&id, comment, &["OneRule"], &[clause], &frame);
        }
    }
    let some = tensor(ElementType::Bf16, &[300], &bytes(&like_trained(300, 1)));
    let coded = Pieces::of(&encode(&some, 1).unwrap());
    let mut words = |id: &str, comment: &str, clause, change: &dyn Fn(&mut Vec<u8>)| {
        let frame = coded.with_words(0, 300, change).frame();
        frames.invalid(id, comment, &["OneRule"], &[clause], &frame);
    };
    words("word-more", "a word more, before the first", "R-5.4", &|words| {
        words.splice(..0, [0x12, 0x34]);
    });
    words("word-missing", "the first word is missing", "R-5.4", &|words| {
        words.drain(..2);
    });
    words("words-none", "all words are missing", "R-5.4", &|words| words.clear());
    let half = coded.with_words(0, 300, |words| words.insert(0, 0)).frame();
    let comment = "half a word more, before the first";
    frames.invalid("words-half", comment, &["OneRule"], &["F-5.2", "F-5.3"], &half);
    let long = Pieces::of(&encode(&tensor(ElementType::U8, &[500], &[255; 500]), 1).unwrap());
    let more = long.with_words(0, 0, |words| words.extend([0; 2 * 501]));
    frames.invalid("words-501-of-500", "more words than symbols", &["OneRule"], &["F-5.3"], &more.frame());
    let none = long.with_words(0, 0, |words| words.extend([0; 2]));
    frames.invalid("word-of-none", "a word where none is needed", &["OneRule"], &["R-5.4"], &none.frame());
}

/// Lengths of whole frames.
fn numbers(frames: &mut Frames) {
    let some = tensor(ElementType::U8, &[9000], &u8s(9000));
    let pieces = Pieces::of(&encode_as(&some, &rans(&some.elements, 12), 4096).unwrap());
    let frame = pieces.frame();
    for (id, comment, clause, len) in [
        ("cut-magic", "7 bytes", "F-3.1", 7),
        ("cut-version", "the magic alone", "F-3.1", 8),
        ("cut-header", "20 bytes", "F-3.1", 20),
        ("cut-alphabet", "the frame ends in the alphabet", "F-3.1", 50),
        ("cut-block", "the frame ends in its second block", "F-6.2", frame.len() / 2),
        ("cut-trailer", "the trailer is missing", "F-6.2", frame.len() - 24),
    ] {
        frames.invalid(id, comment, &["Length"], &[clause], &frame[..len]);
    }
    let mut missing = pieces.clone();
    missing.blocks.pop();
    missing.seeds.pop();
    let comment = "the last block is missing, with its entry";
    frames.invalid("block-missing", comment, &["Length"], &["F-6.2"], &missing.frame());
    let mut more = pieces.clone();
    more.blocks.push(pieces.blocks[2].clone());
    more.seeds.push(3);
    let comment = "a block more than there are elements, with its entry";
    frames.invalid("block-more", comment, &["Length"], &["F-6.2"], &more.frame());
    let longer = [&frame[..], &[0; 16]].concat();
    frames.invalid("longer-16", "16 zeros follow", &["Length", "OneRule"], &["F-6.2"], &longer);
}
