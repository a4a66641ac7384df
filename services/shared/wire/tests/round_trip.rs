//! Domain → wire → domain is identity, through encoded bytes, for every noun.

mod support;

use proptest::prelude::*;
use prost::Message;
use refract_wire::convert::{explanation, history, item, knowledge, pair, slate};
use refract_wire::path::Path;
use refract_wire::{Limits, Rules};

/// Through the bytes of the network.
fn bytes<M: Message + Default>(message: M) -> M {
    M::decode(message.encode_to_vec().as_slice()).expect("what was encoded decodes")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn an_item_comes_back(value in support::item()) {
        let back = item::from_proto(bytes(item::to_proto(&value)), &Path::ROOT, &Limits::default());
        prop_assert_eq!(back, Ok(value));
    }

    #[test]
    fn a_history_comes_back(value in support::history()) {
        let back = history::from_proto(bytes(history::to_proto(&value, |of| item::encoded(of))), &Path::ROOT, &Rules::default());
        prop_assert_eq!(back, Ok(value));
    }

    #[test]
    fn a_pair_comes_back(value in support::pair()) {
        let back = pair::from_parts(pair::to_parts(&value), value.tenant.clone(), &Path::ROOT, &Limits::default());
        prop_assert_eq!(back, Ok(value));
    }

    #[test]
    fn a_slate_comes_back(value in support::slate()) {
        let back = slate::from_proto(bytes(slate::to_proto(&value)), &Path::ROOT, &Limits::default());
        prop_assert_eq!(back, Ok(value));
    }

    #[test]
    fn knowledge_comes_back_from_the_network_and_from_the_store(value in support::knowledge()) {
        let back = knowledge::from_proto(bytes(knowledge::to_proto(&value)), &Path::ROOT, &Limits::default());
        prop_assert_eq!(back.as_ref(), Ok(&value));
        let back = knowledge::from_stored(&knowledge::to_stored(&value), &Limits::default());
        prop_assert_eq!(back, Ok(value));
    }

    #[test]
    fn an_explanation_comes_back_with_and_without_its_knowledge(
        value in support::explanation(),
        known in proptest::option::of(support::knowledge()),
    ) {
        let wire = bytes(explanation::to_proto(&value, known.as_ref()));
        prop_assert_eq!(explanation::from_proto(wire, &Path::ROOT, &Limits::default()), Ok((value, known)));
    }

    /// Whatever the bytes are, reading them gives a value or an error that names a place, and never a panic.
    #[test]
    fn garbage_is_survived(noise in proptest::collection::vec(any::<u8>(), 0..200)) {
        use refract_wire::proto::recommend::v1 as proto;
        if let Ok(message) = proto::RecommendRequest::decode(noise.as_slice()) {
            let _ = refract_wire::recommend::parse_recommend(message, &Rules::default());
        }
        let _ = knowledge::from_stored(&noise, &Limits::default());
    }
}
