//! Writes the weights where `include_bytes!` finds them, and passes the linker script of the
//! machine.

use std::path::Path;
use std::{env, fs};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let out = env::var("OUT_DIR")?;
    for (name, bytes) in firmware_host::files()? {
        fs::write(Path::new(&out).join(name), bytes)?;
    }
    println!("cargo::rerun-if-changed={}", firmware_host::SOURCE);
    println!("cargo::rerun-if-changed=link");
    let script = match env::var("CARGO_CFG_TARGET_ARCH")?.as_str() {
        "arm" => "cortex_m.x",
        "riscv32" => "riscv.x",
        machine => return Err(format!("there is no linker script for {machine}; see README.md").into()),
    };
    // The linker searches for scripts where it searches for libraries.
    println!("cargo::rustc-link-search={}/link", env::var("CARGO_MANIFEST_DIR")?);
    println!("cargo::rustc-link-arg-bins=-T{script}");
    Ok(())
}
