//! Links the C library, which a program without std does not do by itself.

fn main() {
    println!("cargo::rustc-link-lib=c");
}
