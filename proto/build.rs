//! Compiles the schema in Rust alone (protox), so that no `protoc` has to be installed.
use prost::Message;
use std::{env, error::Error, fs, path::PathBuf};

const FILES: [&str; 5] = [
    "hearth/v1/event.proto",
    "hearth/v1/room_service.proto",
    "hearth/v1/presence_service.proto",
    "hearth/v1/link_service.proto",
    "hearth/v1/admin_service.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=hearth");
    let descriptors = protox::compile(FILES, ["."])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    // No `connect` made by the build: it would clash with the RPC of that name.
    tonic_prost_build::configure().build_transport(false).bytes(".").compile_fds(descriptors)?;
    Ok(())
}
