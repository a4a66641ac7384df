//! Compiles `proto/` to Rust, without `protoc`.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() -> Result<(), Box<dyn Error>> {
    // At run time: a target directory may have been moved since this script was compiled.
    let root = Path::new(&std::env::var("CARGO_MANIFEST_DIR")?).join("../../../proto");
    println!("cargo:rerun-if-changed={}", root.display());

    let mut files = Vec::new();
    collect(&root.join("refract"), &mut files)?;
    files.sort();
    // No message holds these; the details of every error do.
    files.push(root.join("google/rpc/error_details.proto"));

    let mut compiler = protox::Compiler::new([&root])?;
    compiler
        .include_imports(true)
        .include_source_info(true)
        .open_files(&files)?;

    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("refract.fds"), compiler.encode_file_descriptor_set())?;

    tonic_prost_build::configure()
        // Callers bring their own transport; the generated `connect` would tie them to tonic's.
        .build_transport(false)
        // Maps keep an order, so that equal values are equal bytes.
        .btree_map(".")
        // A history is passed on without being taken apart (src/encoded.rs).
        .extern_path(".refract.type.v1.History", "crate::encoded::History")
        .extern_path(".refract.type.v1.Interaction", "crate::encoded::Interaction")
        // One Rust type for google.rpc.Status: the one that knows the rich details.
        .extern_path(".google.rpc", "::tonic_types::pb")
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}

/// Every `.proto` under `dir`.
fn collect(dir: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|e| e == "proto") {
            files.push(path);
        }
    }
    Ok(())
}
