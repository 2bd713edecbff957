//! Prints the work of the kernels that apply a delta, and what limits cards by that.
//!
//! `deltas NEW BASE [TOOLS]`: two files of BF16 weights, and a folder with NVIDIA's assembler, as
//! `gpu/ptx/build.sh` leaves it in `target/cuda`.

#![allow(clippy::print_stdout, reason = "what a command line says")]

use std::path::Path;
use std::process::ExitCode;

use df11_gpu_lab::model::{CARDS, most};
use df11_gpu_lab::report::{Tools, delta_rows};

fn run(arguments: &[String]) -> Result<(), Box<dyn std::error::Error>> {
    let [new, base, rest @ ..] = arguments else { return Err("deltas NEW BASE [TOOLS]".into()) };
    let (new, base) = (std::fs::read(new)?, std::fs::read(base)?);
    let tools = rest.first().and_then(|folder| Tools::find(Path::new(folder)));
    let rows = delta_rows(&new, &base, tools.as_ref())?;
    println!(
        "| kernel | target | PTX instructions | machine instructions | lanes busy | sectors read | \
         sectors written | wavefronts | of which conflicts |"
    );
    for row in &rows {
        let machine = row.machine_instructions.map_or("-".to_owned(), |number| format!("{number:.3}"));
        println!(
            "| {} | {} | {:.3} | {machine} | {:.0} % | {:.4} | {:.4} | {:.4} | {:.4} |",
            row.kernel,
            row.target,
            row.ptx_instructions,
            100.0 * row.lane_efficiency,
            row.load_sectors,
            row.store_sectors,
            row.shared_wavefronts,
            row.shared_conflicts
        );
        row.findings.iter().for_each(|finding| println!("{finding}"));
    }
    for card in CARDS {
        let of_card = |row: &&_| -> bool {
            let row: &df11_gpu_lab::report::Row = row;
            row.kernel == "update" && row.target == card.target
        };
        if let Some(row) = rows.iter().find(of_card) {
            let (speed, limit) = most(row, &card);
            println!("{}: at most {speed:.0} GB/s of BF16, by {limit:?}", card.name);
        }
    }
    Ok(())
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
