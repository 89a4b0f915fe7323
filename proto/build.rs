//! Compiles the .proto files with protox, so that a machine with only Rust can build the project.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = "proto";
    let files = [
        "proto/richardstore/v1/richardstore.proto",
        "proto/richardstore/v1/admin.proto",
        "proto/richardstore/v1/rebuild.proto",
    ];
    for file in files {
        println!("cargo:rerun-if-changed={file}");
    }
    let descriptors = protox::compile(files, [root])?;
    let out = std::path::PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(
        out.join("descriptor.bin"),
        prost::Message::encode_to_vec(&descriptors),
    )?;
    tonic_prost_build::configure()
        .bytes(".")
        .compile_fds(descriptors)?;
    Ok(())
}
