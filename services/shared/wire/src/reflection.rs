//! Lets a stranger's client ask what a port serves: reflection v1 and v1alpha, of public services only.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message as _;
use prost_types::{FileDescriptorProto, FileDescriptorSet};
use tonic_reflection::server::{Builder, v1, v1alpha};

use crate::proto::FILE_DESCRIPTOR_SET;

/// Names of services, as reflection and health know them.
pub const RECOMMEND_SERVICE: &str = "refract.recommend.v1.RecommendService";
pub const RANKER_SERVICE: &str = "refract.ranker.v1.RankerService";
pub const ORACLE_SERVICE: &str = "refract.oracle.v1.OracleService";
pub const PRISM_SERVICE: &str = "refract.prism.v1.PrismService";
pub const HEALTH_SERVICE: &str = "grpc.health.v1.Health";

/// Both versions of reflection for the named services and nothing else: files that these do not need stay unknown.
///
/// # Panics
///
/// If a name is not a service of `proto/` or health: the names are constants of the program.
pub fn services(
    names: &[&str],
) -> (
    v1::ServerReflectionServer<impl v1::ServerReflection>,
    v1alpha::ServerReflectionServer<impl v1alpha::ServerReflection>,
) {
    let files = files_of(names);
    let builder = || {
        let builder = Builder::configure().register_file_descriptor_set(files.clone());
        names
            .iter()
            .fold(builder, |builder, name| builder.with_service_name(*name))
    };
    let own = "the descriptors that this program was built with are well formed; else this is a bug";
    (
        builder().build_v1().expect(own),
        builder().build_v1alpha().expect(own),
    )
}

/// Not imported by any service: errors carry these in their details, and clients want to print them.
const ERROR_DETAILS: &str = "google/rpc/error_details.proto";

/// The files that declare the services, those that they import, and what errors are made of.
fn files_of(names: &[&str]) -> FileDescriptorSet {
    let mut all = BTreeMap::new();
    for encoded in [FILE_DESCRIPTOR_SET, tonic_health::pb::FILE_DESCRIPTOR_SET] {
        let set =
            FileDescriptorSet::decode(encoded).expect("built-in descriptors decode; else this is a bug");
        all.extend(set.file.into_iter().map(|file| (file.name().to_owned(), file)));
    }
    let mut wanted = vec![ERROR_DETAILS.to_owned()];
    for name in names {
        let declares = |file: &&FileDescriptorProto| {
            file.service
                .iter()
                .any(|service| format!("{}.{}", file.package(), service.name()) == **name)
        };
        let file = all.values().find(declares);
        wanted.push(
            file.unwrap_or_else(|| panic!("no service is called {name}; this is a bug"))
                .name()
                .to_owned(),
        );
    }
    let mut taken = BTreeSet::new();
    while let Some(name) = wanted.pop() {
        if let Some(file) = all.get(&name)
            && taken.insert(name)
        {
            wanted.extend(file.dependency.iter().cloned());
        }
    }
    FileDescriptorSet {
        file: all
            .into_iter()
            .filter(|(name, _)| taken.contains(name))
            .map(|(_, f)| f)
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_public_services_need_is_shown() {
        let files = files_of(&[RECOMMEND_SERVICE, HEALTH_SERVICE]);
        let names: Vec<&str> = files.file.iter().map(FileDescriptorProto::name).collect();
        assert!(
            names.contains(&"refract/recommend/v1/recommend_service.proto"),
            "{names:?}"
        );
        assert!(names.contains(&"google/rpc/status.proto") && names.contains(&"google/protobuf/any.proto"));
        for hidden in ["oracle", "prism", "ranker", "stored"] {
            assert!(
                !names.iter().any(|name| name.contains(hidden)),
                "{hidden} in {names:?}"
            );
        }
        assert!(
            files.file.iter().any(|f| f.source_code_info.is_some()),
            "comments come along"
        );
        let _ = services(&[
            RECOMMEND_SERVICE,
            ORACLE_SERVICE,
            PRISM_SERVICE,
            RANKER_SERVICE,
            HEALTH_SERVICE,
        ]);
    }
}
