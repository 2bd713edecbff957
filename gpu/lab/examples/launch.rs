//! Runs a kernel once in the emulator, for `gpu/card/dry.py`.
//!
//! `launch PTX ENTRY GRID BLOCK SHARED MEMORY ARGUMENT...`: `MEMORY` is a file that becomes the
//! only buffer of the device, at its first address, and is written back. Findings are an error.

#![allow(clippy::print_stdout, reason = "what a command line says")]

use std::process::ExitCode;

use df11_emulator::{Device, Launch, Module, Options};

fn run(arguments: &[String]) -> Result<(), Box<dyn std::error::Error>> {
    let [ptx, entry, grid, block, shared, memory, rest @ ..] = arguments else {
        return Err("launch PTX ENTRY GRID BLOCK SHARED MEMORY ARGUMENT...".into());
    };
    let module = Module::parse(&std::fs::read_to_string(ptx)?)?;
    let bytes = std::fs::read(memory)?;
    let mut device = Device::new();
    let address = device.allocate(bytes.len());
    device.write(address, &bytes);
    let values = rest.iter().map(|text| text.parse()).collect::<Result<Vec<u64>, _>>()?;
    let launch = Launch {
        grid: [grid.parse()?, 1, 1],
        block: [block.parse()?, 1, 1],
        shared_bytes: shared.parse()?,
        arguments: &values,
    };
    let report = module.launch(entry, &mut device, &launch, &Options::default())?;
    std::fs::write(memory, device.read(address, bytes.len()))?;
    match report.findings.first() {
        Some(finding) => Err(finding.to_string().into()),
        None => Ok(()),
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{error}");
            ExitCode::FAILURE
        }
    }
}
