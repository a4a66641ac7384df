//! A history whose parts stay encoded, so that it is passed on without being taken apart.
//!
//! A message inside a message is its length and its bytes on the wire, exactly as a field of type `bytes` is: so these two read and write
//! what `proto/refract/type/v1` says, and an interaction or an item costs a copy where it would cost a dozen allocations. With fifty items
//! of history sent for each item of a slate, that was most of what services did beside their models.

use bytes::Bytes;
use prost::Message;

/// `refract.type.v1.History`.
#[derive(Clone, PartialEq, Message)]
pub struct History {
    /// Each an [`Interaction`].
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub interactions: Vec<Bytes>,
}

/// `refract.type.v1.Interaction`.
#[derive(Clone, PartialEq, Message)]
pub struct Interaction {
    /// A `refract.type.v1.Item`.
    #[prost(bytes = "bytes", optional, tag = "1")]
    pub item: Option<Bytes>,
    #[prost(int64, tag = "2")]
    pub time_unix_s: i64,
    #[prost(enumeration = "crate::proto::r#type::v1::Signal", tag = "3")]
    pub signal: i32,
    #[prost(float, optional, tag = "4")]
    pub rating: Option<f32>,
    #[prost(string, optional, tag = "5")]
    pub text: Option<String>,
}

impl FromIterator<Interaction> for History {
    fn from_iter<I: IntoIterator<Item = Interaction>>(interactions: I) -> Self {
        let interactions = interactions.into_iter();
        Self {
            interactions: interactions.map(|it| it.encode_to_vec().into()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use prost_types::field_descriptor_proto::{Label, Type};
    use prost_types::{DescriptorProto, FileDescriptorSet};

    use super::*;

    /// By tag: whether it is repeated, and its type in the contract.
    fn contract(message: &str) -> BTreeMap<i32, (bool, Type)> {
        let files = FileDescriptorSet::decode(crate::FILE_DESCRIPTOR_SET)
            .expect("our own")
            .file;
        let types = files
            .into_iter()
            .filter(|file| file.package() == "refract.type.v1");
        let found: DescriptorProto = types
            .flat_map(|file| file.message_type)
            .find(|it| it.name() == message)
            .expect("the contract has it");
        let fields = found.field.iter();
        fields
            .map(|field| (field.number(), (field.label() == Label::Repeated, field.r#type())))
            .collect()
    }

    /// These two are written by hand: whoever changes the contract must change them.
    #[test]
    fn the_contract_has_these_fields_and_no_others() {
        assert_eq!(contract("History"), BTreeMap::from([(1, (true, Type::Message))]));
        let one = |tag, kind| (tag, (false, kind));
        let fields = [
            one(1, Type::Message),
            one(2, Type::Int64),
            one(3, Type::Enum),
            one(4, Type::Float),
            one(5, Type::String),
        ];
        assert_eq!(contract("Interaction"), BTreeMap::from(fields));
    }
}
