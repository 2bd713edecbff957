//! Measures each operation of the codec on one thread, beside the minimum work that every BF16
//! codec shares: splitting weights into two planes and merging them. `cargo bench -p df11-bench`

#![allow(clippy::unwrap_used, missing_docs, reason = "a bench; criterion's macros write no docs")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use df11::{Decoder, EncodeOptions, Encoder, Level, Plan, bf16};

fn codec(criterion: &mut Criterion) {
    let (name, weights) = df11_bench::weights();
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Bytes(weights.len() as u64));
    group.sample_size(20);

    let plan = Plan::new(&[&weights], &EncodeOptions::default()).unwrap();
    let mut encoded = plan.encode(&[&weights]).unwrap();
    // Every buffer is touched before anything is timed.
    let mut out = vec![1; weights.len()];
    let (mut exponents, mut sign_mantissas) = (vec![1; weights.len() / 2], vec![1; weights.len() / 2]);

    group.bench_function("split", |b| {
        b.iter(|| bf16::split(&weights, &mut exponents, &mut sign_mantissas).unwrap())
    });
    group.bench_function("merge", |b| b.iter(|| bf16::merge(&exponents, &sign_mantissas, &mut out).unwrap()));
    assert!(out == weights);

    group.bench_function("encode", |b| {
        b.iter(|| {
            let plan = Plan::new(&[&weights], &EncodeOptions::default()).unwrap();
            plan.encode_into(&[&weights], encoded.as_mut_slices()).unwrap();
        });
    });
    group.bench_function("histogram", |b| {
        b.iter(|| {
            let mut frequencies = [0; 256];
            bf16::add_to_histogram(&weights, &mut frequencies).unwrap();
            frequencies
        });
    });
    let unit = encoded.as_unit();
    group.bench_function("tables", |b| b.iter(|| Decoder::new(&unit)));
    for level in Level::all() {
        let decoder = Decoder::at_level(&unit, level);
        out.fill(1);
        group.bench_function(format!("decode, {}", level.name()), |b| {
            b.iter(|| decoder.decode_into(&mut out).unwrap());
        });
        assert!(out == weights);
        let encoder = Encoder::at_level(&plan, level);
        let mut again = plan.buffers();
        group.bench_function(format!("code, {}", level.name()), |b| {
            b.iter(|| encoder.encode_into(&[&weights], again.as_mut_slices()).unwrap());
        });
        assert!(again == encoded);
    }
    out.fill(1);
    group.bench_function("decode", |b| b.iter(|| unit.decode_into(&mut out).unwrap()));
    assert!(out == weights);
    out.fill(1);
    group.bench_function("verify", |b| {
        b.iter(|| unit.verify_blocks_into(0..unit.blocks(), &mut out).unwrap())
    });
    assert!(out == weights);
    group.finish();
}

criterion_group!(benches, codec);
criterion_main!(benches);
