//! The only crate that knows protobuf and tonic::Status: generated code, conversions, clients and servers.
