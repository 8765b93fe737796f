//! Compiles our .proto files with protox, so that no protobuf compiler need be installed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(
        [
            "istio/nds.proto",
            "istio/proxy_config.proto",
            "istio/ca.proto",
            "grpc/health.proto",
            "isthmus/v1/record.proto",
            "isthmus/v1/tunnel.proto",
            "isthmus/v1/report.proto",
        ],
        ["proto"],
    )?;
    tonic_prost_build::configure().btree_map(".").compile_fds(descriptors)?;
    Ok(())
}
