//! Links the C library, which a program without std does not link by itself.

fn main() {
    println!("cargo::rustc-link-lib=c");
}
