//! Says that this build of the store is the explored one.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-cfg=explored");
}
