//! Items that were read from the wire before.
//!
//! A history of fifty items comes with each item of a slate, and mostly with items that came before: what was read and checked once is
//! found again by its bytes.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use moka::sync::Cache;
use refract_domain::{Error, Item};

use crate::convert::item::ItemRef;
use crate::limits::Limits;
use crate::path::Path;
use crate::proto::r#type::v1 as proto;

/// Items by their encoded bytes, the ones used least go first. Holds items alone: nothing says whose history they were in.
#[derive(Clone)]
pub struct Items(Cache<Bytes, Arc<Item>>);

/// Estimated memory of an item: its text once as bytes and once read, with room for the allocations that it is read into.
const BYTES_PER_BYTE: usize = 3;
/// Of the entry itself.
const BYTES_EACH: usize = 256;

impl Items {
    /// About so many bytes of memory. Default 32 MiB, some 40,000 items of films.
    pub const BYTES_DEFAULT: u64 = 32 << 20;

    pub fn holding(bytes: u64) -> Self {
        let weight = |encoded: &Bytes, _: &Arc<Item>| {
            u32::try_from(BYTES_EACH + BYTES_PER_BYTE * encoded.len()).unwrap_or(u32::MAX)
        };
        Self(Cache::builder().max_capacity(bytes).weigher(weight).build())
    }

    /// The item that these bytes are, checked against `limits`: the same at each call.
    pub(crate) fn read(&self, encoded: &Bytes, path: &Path<'_>, limits: &Limits) -> Result<ItemRef, Error> {
        if let Some(item) = self.0.get(encoded) {
            return Ok(ItemRef::Whole(item));
        }
        let item = ItemRef::from_proto(path.decode::<proto::Item>(encoded.clone())?, path, limits)?;
        if let ItemRef::Whole(item) = &item {
            // A copy: the slice would keep all of its message alive.
            self.0.insert(Bytes::copy_from_slice(encoded), Arc::clone(item));
        }
        Ok(item)
    }
}

impl Default for Items {
    fn default() -> Self {
        Self::holding(Self::BYTES_DEFAULT)
    }
}

/// Says how many and not what.
impl fmt::Debug for Items {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Items")
            .field("kept", &self.0.entry_count())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    fn encoded(id: &str, title: &str) -> Bytes {
        let item = proto::Item {
            id: id.to_owned(),
            title: title.to_owned(),
            ..Default::default()
        };
        item.encode_to_vec().into()
    }

    fn read(items: &Items, encoded: &Bytes) -> Result<ItemRef, Error> {
        items.read(encoded, &Path::ROOT, &Limits::default())
    }

    fn whole(items: &Items, encoded: &Bytes) -> Arc<Item> {
        match read(items, encoded) {
            Ok(ItemRef::Whole(item)) => item,
            other => panic!("a whole item expected: {other:?}"),
        }
    }

    #[test]
    fn the_same_bytes_are_the_same_item_and_other_bytes_are_another() {
        let items = Items::default();
        let first = whole(&items, &encoded("a", "Alien"));
        assert!(Arc::ptr_eq(&first, &whole(&items, &encoded("a", "Alien"))));
        assert_eq!(whole(&items, &encoded("a", "Aliens")).title, "Aliens");
    }

    #[test]
    fn a_mere_name_is_read_anew_each_time_since_its_place_is_part_of_it() {
        let (items, root) = (Items::default(), Path::ROOT);
        for place in ["a", "b"] {
            let named = items.read(&encoded("a", ""), &root.field(place), &Limits::default());
            let ItemRef::Named { field, .. } = named.expect("a name") else {
                panic!("a name expected")
            };
            assert_eq!(field, place);
        }
    }

    #[test]
    fn what_is_refused_is_refused_again() {
        let items = Items::default();
        for _ in 0..2 {
            assert!(read(&items, &encoded("a", "two\nlines")).is_err());
            assert!(read(&items, &Bytes::from_static(&[0xff])).is_err());
        }
    }

    #[test]
    fn what_is_kept_stays_within_its_bytes() {
        let items = Items::holding(100_000);
        for n in 0..2_000 {
            whole(&items, &encoded(&n.to_string(), "A title of some length"));
        }
        items.0.run_pending_tasks();
        assert!(items.0.weighted_size() <= 100_000 && items.0.entry_count() > 10);
    }
}
