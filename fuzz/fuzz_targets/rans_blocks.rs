//! Any symbols and any blocks: core on every level, alone and beside other blocks, writes what the
//! reference writes, and gives its verdict.
#![no_main]
use df11::hazmat::rans::{
    DecodeBlock, DecodeTable, EncodeBlock, EncodeTable, Frequencies, STATES_BYTES, words_bound,
};
use df11::{Error, ErrorKind, Level};
use df11_fuzz::{cut, settings, soon};
use df11_reference::rans as reference;
use libfuzzer_sys::fuzz_target;

/// The most symbols of a block.
const MOST: usize = 1000;

/// States and words, and how many symbols are to be decoded from them.
#[derive(Clone)]
struct Block {
    states: [u8; STATES_BYTES],
    words: Vec<u8>,
    len: usize,
}

/// Both kinds of frequencies.
struct Model {
    ours: Frequencies,
    theirs: reference::Frequencies,
}

impl Model {
    /// Normalised counts.
    fn normalise(counts: &[u64; 256], scale_bits: u8) -> Self {
        let ours = Frequencies::normalise(counts, scale_bits).unwrap();
        let theirs = reference::Frequencies::normalise(counts, u32::from(scale_bits));
        assert_eq!(ours.as_array().map(u64::from), theirs.f);
        Model { ours, theirs }
    }

    /// Any frequencies: those of the list, as far as there is room, and the rest for the last
    /// symbol of it.
    fn any(list: &[u8], scale_bits: u8) -> Self {
        let mut frequencies = [0; 256];
        let (mut left, mut last) = (1 << scale_bits, 0);
        for [symbol, low, high] in list.as_chunks::<3>().0 {
            last = usize::from(*symbol);
            let some = (u16::from_le_bytes([*low, *high]) % 4096).min(left);
            frequencies[last] += some;
            left -= some;
        }
        frequencies[last] += left;
        let theirs =
            reference::Frequencies { scale_bits: u32::from(scale_bits), f: frequencies.map(u64::from) };
        Model { ours: Frequencies::new(&frequencies, scale_bits).unwrap(), theirs }
    }

    /// Encodes on every level, alone and beside others, and compares with the reference. `None` if
    /// a symbol has no frequency.
    fn encode(&self, symbols: &[u8]) -> Option<Block> {
        let table = EncodeTable::new(&self.ours);
        let lens = [symbols.len(), symbols.len().div_ceil(2), symbols.len(), 1 + symbols.len() % 70, 1];
        let lens = lens.map(|len| len.min(symbols.len()));
        let expected = lens.map(|len| self.encode_by_reference(&symbols[..len]));
        for level in Level::all() {
            for several in [&lens[..1], &lens[..2], &lens[..]] {
                let mut room = several
                    .iter()
                    .map(|&len| ([0xa5; STATES_BYTES], vec![0x5a; words_bound(len)]))
                    .collect::<Vec<_>>();
                let mut blocks: Vec<_> = room
                    .iter_mut()
                    .zip(several)
                    .map(|((states, words), &len)| EncodeBlock {
                        symbols: &symbols[..len],
                        states,
                        words,
                        words_bytes: 0,
                    })
                    .collect();
                let found = table.encode_blocks(level, &mut blocks);
                let errors: Vec<_> =
                    expected[..several.len()].iter().filter_map(|e| e.as_ref().err()).collect();
                is_one_of(found, &errors, level);
                for (block, expected) in blocks.iter().zip(&expected).filter(|_| found.is_ok()) {
                    let expected = expected.as_ref().unwrap();
                    assert_eq!(*block.states, expected.states, "{}", level.name());
                    assert_eq!(block.words[..block.words_bytes], expected.words, "{}", level.name());
                }
            }
        }
        let [block, ..] = expected;
        block.ok()
    }

    fn encode_by_reference(&self, symbols: &[u8]) -> Result<Block, Error> {
        match reference::encode(&self.theirs, symbols) {
            Ok(reference::Block { states, words }) => {
                let mut bytes = [0; STATES_BYTES];
                let to = bytes.as_chunks_mut::<4>().0.iter_mut();
                to.zip(states)
                    .for_each(|(bytes, state)| *bytes = u32::try_from(state).unwrap().to_le_bytes());
                let words = words.into_iter().flat_map(u16::to_le_bytes).collect();
                Ok(Block { states: bytes, words, len: symbols.len() })
            }
            Err(violation) => {
                let index = symbols.iter().position(|&symbol| self.ours.of(symbol) == 0).unwrap();
                let error = Error::NoFrequency { symbol: symbols[index], index };
                assert_eq!(Some(violation.clause), error.clause());
                Err(error)
            }
        }
    }

    /// The verdict of core without vectors, which must be that of the reference.
    fn decode(&self, table: &DecodeTable, block: &Block) -> Result<Vec<u8>, Error> {
        let Block { states, words, len } = block;
        let found = decode(table, block);
        if *len == 0 {
            // there are none.
            assert_eq!(found, Err(Error::NoSymbols));
        } else if !words.len().is_multiple_of(2) {
            assert_eq!(found, Err(Error::OddWords { bytes: words.len() }));
        } else {
            let states = states.as_chunks::<4>().0;
            let block = reference::Block {
                states: std::array::from_fn(|lane| u64::from(u32::from_le_bytes(states[lane]))),
                words: words.as_chunks::<2>().0.iter().map(|word| u16::from_le_bytes(*word)).collect(),
            };
            match (&found, reference::decode(&self.theirs, &block, *len)) {
                (Ok(found), Ok(expected)) => assert_eq!(*found, expected),
                (Err(error), Err(violation)) => {
                    assert_eq!(error.clause(), Some(violation.clause), "{error:?}")
                }
                (found, expected) => {
                    panic!("core: {:?}, reference: {:?}", found.as_ref().err(), expected.err())
                }
            }
        }
        found
    }
}

/// Of several blocks with errors, levels may come to another first.
fn is_one_of(found: Result<(), Error>, errors: &[&Error], level: Level) {
    match found {
        Ok(()) => assert!(errors.is_empty(), "{}: {errors:?}", level.name()),
        Err(error) => assert!(errors.contains(&&error), "{}: {error:?}, not {errors:?}", level.name()),
    }
}

/// The verdict of core without vectors.
fn decode(table: &DecodeTable, block: &Block) -> Result<Vec<u8>, Error> {
    let Block { states, words, len } = block;
    let mut symbols = vec![0x5a; *len];
    let one = DecodeBlock { states, words, words_bytes: words.len(), symbols: &mut symbols };
    table.decode_blocks(Level::all().next().unwrap(), &mut [one]).map(|()| symbols)
}

/// Decodes blocks together on every level, with these bytes after the words of each.
fn decode_together(
    table: &DecodeTable,
    blocks: &[(&Block, &Result<Vec<u8>, Error>)],
    after: &[u8],
    shift: usize,
) {
    // Words begin anywhere.
    let words: Vec<_> =
        blocks.iter().map(|(block, _)| [&after[..shift], &block.words[..], after].concat()).collect();
    let errors: Vec<_> = blocks.iter().filter_map(|(_, verdict)| verdict.as_ref().err()).collect();
    for level in Level::all() {
        let mut symbols: Vec<_> = blocks.iter().map(|(block, _)| vec![0xa5; block.len]).collect();
        let mut together: Vec<_> = blocks
            .iter()
            .zip(&words)
            .zip(&mut symbols)
            .map(|(((block, _), words), symbols)| DecodeBlock {
                states: &block.states,
                words: &words[shift..],
                words_bytes: block.words.len(),
                symbols,
            })
            .collect();
        is_one_of(table.decode_blocks(level, &mut together), &errors, level);
        for (symbols, (_, verdict)) in symbols.iter().zip(blocks).filter(|_| errors.is_empty()) {
            assert_eq!(Ok(symbols), verdict.as_ref(), "{}", level.name());
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let [control, symbols, frequencies, states, words] = cut(data);
    let [scale_bits, repeat, kind, len_low, len_high, order @ .., after, shift] = settings::<14>(control);
    let mut symbols = symbols.repeat(1 + usize::from(repeat) % 16);
    symbols.truncate(MOST);

    // What is no frequencies.
    let sums: [u16; 256] = std::array::from_fn(|i| {
        frequencies.get(2 * i..2 * i + 2).map_or(0, |f| u16::from_le_bytes([f[0], f[1]]))
    });
    let sum: u32 = sums.iter().copied().map(u32::from).sum();
    let refused = Frequencies::new(&sums, scale_bits).err().map(|error| (error.kind(), error.clause()));
    let expected = match scale_bits {
        9..=12 if sum == 1 << scale_bits => None,
        9..=12 => Some((ErrorKind::Corrupt, Some("R-2.2"))),
        // Nobody has read these from a file.
        _ => Some((ErrorKind::InvalidInput, None)),
    };
    assert_eq!(refused, expected);
    let scale_bits = 9 + scale_bits % 4;

    // Symbols under their own frequencies, and under any.
    let mut counts = [0; 256];
    symbols.iter().for_each(|&symbol| counts[usize::from(symbol)] += 1);
    let any = Model::any(frequencies, scale_bits);
    let mut table = Box::new(DecodeTable::new());
    let mut first = None;
    if !symbols.is_empty() {
        let own = Model::normalise(&counts, scale_bits);
        let block = own.encode(&symbols).expect("every symbol has a frequency");
        table.build(&own.ours);
        let verdict = Ok(symbols.clone());
        decode_together(&table, &[(&block, &verdict)], &[], 0);
        let part = &symbols[..symbols.len().min(soon(&own.ours) / 2)];
        let block_of_part = own.encode_by_reference(part).expect("every symbol has a frequency");
        assert_eq!(own.decode(&table, &block_of_part).as_deref(), Ok(part));
        any.encode(&symbols);
        first = Some(block);
    }
    // The table had other contents.
    table.build(&any.ours);
    let alphabet: Vec<u8> = (0..=255).filter(|&symbol| any.ours.of(symbol) > 0).collect();
    symbols.iter_mut().for_each(|symbol| *symbol = alphabet[usize::from(*symbol) % alphabet.len()]);
    symbols.extend(alphabet.first().filter(|_| symbols.is_empty()));
    symbols.truncate(soon(&any.ours));
    let sound = any.encode(&symbols).expect("every symbol has a frequency");

    // A block: damaged, or any states and words, or one under other frequencies.
    let len = usize::from(u16::from_le_bytes([len_low, len_high])) % (soon(&any.ours) + 1);
    let mut block = sound.clone();
    match kind % 4 {
        0 | 1 => {
            for [at, change] in states.as_chunks::<2>().0 {
                if *change > 0 {
                    block.states[usize::from(*at) % STATES_BYTES] ^= change;
                } else {
                    let state: u32 = [0x7fff, 0x8000, 0x7fff_ffff, 0x8000_0000][usize::from(*at) / 64];
                    let (lanes, _) = block.states.as_chunks_mut::<4>();
                    lanes[usize::from(*at) % 32] = state.to_le_bytes();
                }
            }
            for [low, high, change, what] in words.as_chunks::<4>().0 {
                let at = usize::from(u16::from_le_bytes([*low, *high]));
                match what % 8 {
                    0 => block.words.truncate(at),
                    1 => block.words.truncate(block.words.len().saturating_sub(2 * at)),
                    2 => block.words.extend([*change, *low]),
                    3 => block.words.push(*change),
                    _ if block.words.is_empty() => {}
                    _ => {
                        let at = at % block.words.len();
                        block.words[at] ^= change;
                    }
                }
            }
            if kind % 4 == 1 {
                block.len = len;
            }
        }
        2 => {
            let start = 0x8000u32.to_le_bytes();
            block.states = std::array::from_fn(|i| states.get(i).copied().unwrap_or(start[i % 4]));
            if kind & 0x80 > 0 {
                for state in block.states.as_chunks_mut::<4>().0 {
                    *state = (u32::from_le_bytes(*state) & 0x7fff_ffff | 0x8000).to_le_bytes();
                }
            }
            block.words = words.to_vec();
            block.len = len;
        }
        _ => {
            block = first.unwrap_or(block);
            block.len = block.len.min(soon(&any.ours));
        }
    }
    let verdict = any.decode(&table, &block);
    // Beside it: one that is sound, a shorter one, and one that may be invalid in another way.
    let shorter = any.encode_by_reference(&symbols[..symbols.len().div_ceil(2)]).expect("a part of a block");
    let mut cut = block.clone();
    cut.words.truncate(block.words.len() / 4 * 2);
    let (expected, shorter_verdict) = (Ok(symbols.clone()), Ok(symbols[..shorter.len].to_vec()));
    let cut_verdict = decode(&table, &cut);

    let after = vec![0x5a; usize::from(after) % 100 + 1];
    let shift = usize::from(shift % 2);
    decode_together(&table, &[(&block, &verdict)], &[], 0);
    decode_together(&table, &[(&block, &verdict)], &after, shift);
    let together: Vec<_> = order
        .iter()
        .map(|which| match which % 4 {
            0 => (&sound, &expected),
            1 => (&block, &verdict),
            2 => (&shorter, &shorter_verdict),
            _ => (&cut, &cut_verdict),
        })
        .collect();
    decode_together(&table, &together, &[], 0);
    decode_together(&table, &together, &after, shift);
});
