//! Compiles the bare service that a machine's gRPC limits are measured with.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file = "proto/bare.proto";
    println!("cargo:rerun-if-changed={file}");
    let descriptors = protox::compile([file], ["proto"])?;
    tonic_prost_build::configure()
        .bytes(".")
        .compile_fds(descriptors)?;
    Ok(())
}
