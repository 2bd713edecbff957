//! Any elements of any type and shape come back, and every way of writing them gives the same
//! bytes.
#![no_main]
use df11::frame::{BLOCK, Codec, DecodeTable, ElementType, EncodeOptions, Encoder, Frame, Header, encode};
use df11::hazmat::rans::Frequencies;
use df11::{Error, Level};
use df11_fuzz::frames::{Parameters, counts, repeated, verdict};
use df11_fuzz::{cut, settings};
use df11_reference::frame as reference;
use libfuzzer_sys::fuzz_target;

/// Bytes of elements that the reference encodes, too.
const REFERENCE: usize = 10_000;

/// The most elements.
const MOST: u64 = 2_200_000;

/// Writes some blocks at a time.
fn stream(mut encoder: Encoder, elements: &[u8], size: usize) -> Result<Vec<u8>, Error> {
    let mut bytes = encoder.header();
    for some in elements.chunks(size) {
        bytes.extend_from_slice(encoder.blocks(some)?);
    }
    bytes.extend(encoder.finish()?);
    Ok(bytes)
}

fuzz_target!(|data: &[u8]| {
    let [control, dimensions, pattern, more] = cut(data);
    let [element_type, large, mask, blocks, symbol, weight, missing] = settings(control);
    let element_type = ElementType::ALL[usize::from(element_type) % ElementType::ALL.len()];
    let size = element_type.bytes();

    // Of any shape there is a header, or an error.
    let any: Vec<u64> = more.as_chunks().0.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect();
    // F-3.2
    let product = any.iter().try_fold(size as u64, |product, &dimension| product.checked_mul(dimension));
    let count = if any.contains(&0) { Some(0) } else { product };
    match Encoder::new(element_type, &any, &[u64::from(weight); 256]) {
        Ok(encoder) => {
            let bytes = encoder.header();
            let (header, len) = Header::parse(&bytes).unwrap();
            assert_eq!((len, header.element_type()), (bytes.len(), element_type));
            assert!(header.shape().eq(any) && Some((header.len() * size) as u64) == count);
            assert_eq!(encoder.finish().is_ok(), header.len() == 0);
        }
        Err(error) => {
            assert!(matches!(error, Error::InvalidArgument { .. }) && (any.len() > 32 || count.is_none()))
        }
    }

    // Many elements, which take long, only now and then.
    let most = match large {
        0xa5 => MOST,
        0xa4 => 300_000,
        0xa3 => 140_000,
        _ => 5_000,
    };
    let mut shape: Vec<u64> =
        dimensions.as_chunks().0.iter().take(32).map(|bytes| u64::from(u16::from_le_bytes(*bytes))).collect();
    let mut n = 1;
    for dimension in &mut shape {
        *dimension = (*dimension).min(most / n.max(1));
        n *= *dimension;
    }
    let elements = repeated(pattern, mask, n as usize * size);
    let bytes = encode(element_type, &shape, &elements).unwrap();
    let header = Frame::new(&bytes).unwrap().header().clone();
    assert_eq!((header.element_type(), header.len() as u64), (element_type, n));
    assert!(header.shape().eq(shape.iter().copied()));
    assert!(
        bytes.len() <= elements.len() + 1024 + 48 * header.blocks(),
        "{} of {}",
        bytes.len(),
        elements.len()
    );
    if most == MOST {
        // Past the caches, and no more than that.
        let (mut table, mut found) = (Box::new(DecodeTable::new()), vec![0; elements.len()]);
        for level in Level::all() {
            found.fill(0xa5);
            Frame::new(&bytes).unwrap().at_level(level).decode_in(&mut table, &mut found).unwrap();
            assert!(found == elements, "{}", level.name());
        }
        return;
    }
    assert!(verdict(&bytes).as_ref() == Some(&elements));

    // F-7.2
    let mut counts = counts(element_type, &elements);
    let frequencies = Frequencies::normalise(&counts, 12).ok().filter(|_| header.frequencies().is_some());
    let parameters = Parameters { element_type, block: BLOCK, shape: shape.clone(), frequencies };
    assert!(parameters.write(&elements).bytes == bytes);
    if elements.len() <= REFERENCE {
        let is_coded = header.frequencies().is_some();
        let tensor = reference::Tensor {
            element_type: element_type.number(),
            shape: shape.clone(),
            elements: elements.clone(),
        };
        assert!(reference::encode(&tensor, u8::from(is_coded)).unwrap() == bytes);
    }
    let some = BLOCK * size * (1 + usize::from(blocks) % 6);
    for level in Level::all() {
        let encoder = Encoder::new(element_type, &shape, &counts).unwrap().at_level(level);
        assert!(stream(encoder, &elements, some).as_ref() == Ok(&bytes), "{}", level.name());
    }

    // With a dictionary.
    let options = EncodeOptions::new().codec(Codec::Dictionary);
    let fast = options.encode(element_type, &shape, &elements).unwrap();
    assert!(fast.len() <= elements.len() + 1024 + 48 * header.blocks());
    assert!(verdict(&fast).as_ref() == Some(&elements));
    let is_coded = Frame::new(&fast).unwrap().header().codec() == Codec::Dictionary;
    let counts_or_none = if is_coded { counts } else { [0; 256] };
    for level in Level::all() {
        let encoder = options.encoder(element_type, &shape, &counts_or_none).unwrap().at_level(level);
        assert!(stream(encoder, &elements, some).as_ref() == Ok(&fast), "{}", level.name());
    }
    if elements.len() <= REFERENCE && counts.iter().filter(|count| **count > 0).count() <= 40 {
        let tensor = reference::Tensor {
            element_type: element_type.number(),
            shape: shape.clone(),
            elements: elements.clone(),
        };
        assert!(reference::encode(&tensor, if is_coded { 3 } else { 0 }).unwrap() == fast);
    }

    // Other counts than those of the elements: another frame of them, or an error.
    counts[usize::from(symbol)] += u64::from(weight) << (missing % 48);
    let encoder = |counts: &[u64; 256]| Encoder::new(element_type, &shape, counts).unwrap();
    let other = stream(encoder(&counts), &elements, some).unwrap();
    assert!(verdict(&other).as_ref() == Some(&elements));
    counts[usize::from(missing)] = 0;
    match stream(encoder(&counts), &elements, some) {
        Ok(other) => assert!(verdict(&other).as_ref() == Some(&elements)),
        Err(error) => {
            assert!(matches!(error, Error::NoFrequency { symbol, .. } if symbol == missing), "{error:?}")
        }
    }

    // Elements that the shape does not have.
    let longer = [&elements[..], &[0]].concat();
    assert!(encode(element_type, &shape, &longer).is_err());
    assert!(encoder(&counts).blocks(&longer).is_err());
    if let Some((_, shorter)) = elements.split_last() {
        assert!(encode(element_type, &shape, shorter).is_err());
        assert!(encoder(&counts).finish().is_err());
    }
});
