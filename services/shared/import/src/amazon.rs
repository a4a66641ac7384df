//! Amazon reviews with product metadata (the 2018 and 2023 layouts): a JSON object a line, plain or gzipped.
//!
//! ```text
//!          reviews                                            metadata
//!  2018    reviewerID asin overall unixReviewTime             asin title brand category [..] description [..]
//!  2023    user_id parent_asin rating timestamp (ms)          parent_asin title store categories [..] description [..]
//! ```

use std::collections::BTreeMap;
use std::path::Path;

use crate::error::Result;
use crate::intake::{About, Act, Intake, Options, Scale, Thing};
use crate::lines::each_object;
use crate::report::Report;
use crate::values::{Object, first, id, number, seconds, strings, text};

const SCALE: Scale = Scale {
    min: 1.0,
    max: 5.0,
    liked_at: 4.0,
    disliked_at: 2.0,
};
const LICENCE: &str =
    "Amazon review data: the terms under which it was obtained; no licence is stated with it";
/// The names that appear in shops' exports of HTML.
const ENTITIES: [(&str, &str); 6] = [
    ("&quot;", "\""),
    ("&#39;", "'"),
    ("&lt;", "<"),
    ("&gt;", ">"),
    ("&nbsp;", " "),
    ("&amp;", "&"),
];

/// Imports reviews and metadata into the new directory `out`. Products that nobody reviewed are left out.
pub fn amazon(reviews: &Path, metadata: &Path, out: &Path, options: &Options) -> Result<Report> {
    let mut intake = Intake::new(reviews, metadata, Some(SCALE), false);
    each_object(reviews, |line, object| {
        intake.act(line, object.and_then(|object| review(&object)));
        Ok(())
    })?;
    each_object(metadata, |line, object| {
        let thing = object.and_then(|object| product(&object)).map(|mut thing| {
            let place = format!("{}:{line}", metadata.display());
            let plain = entities(&thing.title);
            if plain != thing.title {
                let said = &plain;
                intake
                    .report
                    .changed_values
                    .add(|| format!("{place}: title became {said:?}"));
                thing.title = plain;
            }
            thing
        });
        intake.thing(line, thing)
    })?;
    let name = reviews.file_name().map_or_else(
        || "amazon".to_owned(),
        |name| {
            let name = name.to_string_lossy();
            name.split('.').next().unwrap_or("amazon").to_owned()
        },
    );
    let about = About {
        name,
        description: "Amazon reviews of products; only stars and times are kept of a review".to_owned(),
        licence: LICENCE.to_owned(),
        synthetic: false,
        rating: Some(SCALE),
    };
    intake.finish(about, options, out)
}

fn review(object: &Object) -> Result<Act, String> {
    Ok(Act {
        user: id(object, &["user_id", "reviewerID"])?,
        item: id(object, &["parent_asin", "asin"])?,
        rating: Some(number(object, &["rating", "overall"])?),
        at: seconds(number(
            object,
            &["timestamp", "unixReviewTime", "sort_timestamp"],
        )?),
    })
}

fn product(object: &Object) -> Result<Thing, String> {
    let mut attributes = BTreeMap::new();
    let mut categories = strings(first(object, &["categories", "category"]));
    // 2018 lists hold scraps of HTML now and then.
    categories.retain(|c| !c.contains('<'));
    let categories = categories.iter().map(|c| entities(c)).collect();
    attributes.insert("category".to_owned(), categories);
    let maker = text(object, &["brand", "store"]).unwrap_or_default();
    if !maker.trim().is_empty() {
        attributes.insert("brand".to_owned(), vec![entities(&maker)]);
    }
    Ok(Thing {
        id: id(object, &["parent_asin", "asin"])?,
        title: text(object, &["title"])?,
        attributes,
        description: entities(&strings(first(object, &["description"])).join(" ")),
    })
}

fn entities(text: &str) -> String {
    if !text.contains('&') {
        return text.to_owned();
    }
    ENTITIES
        .iter()
        .fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}
