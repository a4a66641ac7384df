//! The Yelp academic data set: `…business.json` and `…review.json`, a JSON object a line, plain or gzipped.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::intake::{About, Act, Intake, Options, Scale, Thing};
use crate::lines::each_object;
use crate::report::Report;
use crate::values::{Object, date, id, number, text};

const SCALE: Scale = Scale {
    min: 1.0,
    max: 5.0,
    liked_at: 4.0,
    disliked_at: 2.0,
};
const LICENCE: &str =
    "Yelp Open Dataset: the data set's user agreement, academic and educational use, no redistribution";

/// Imports the directory `from` into the new directory `out`. Businesses that nobody reviewed are left out.
pub fn yelp(from: &Path, out: &Path, options: &Options) -> Result<Report> {
    let (reviews, businesses) = (find(from, "review")?, find(from, "business")?);
    let mut intake = Intake::new(&reviews, &businesses, Some(SCALE), false);
    each_object(&reviews, |line, object| {
        intake.act(line, object.and_then(|object| review(&object)));
        Ok(())
    })?;
    each_object(&businesses, |line, object| {
        intake.thing(line, object.and_then(|object| business(&object)))
    })?;
    let about = About {
        name: "yelp".to_owned(),
        description: "Yelp reviews of businesses; only stars and times are kept of a review".to_owned(),
        licence: LICENCE.to_owned(),
        synthetic: false,
        rating: Some(SCALE),
    };
    intake.finish(about, options, out)
}

fn find(from: &Path, what: &str) -> Result<PathBuf> {
    let names: Vec<String> = ["yelp_academic_dataset_", ""]
        .iter()
        .flat_map(|start| ["json", "json.gz"].map(|end| format!("{start}{what}.{end}")))
        .collect();
    names
        .iter()
        .map(|name| from.join(name))
        .find(|path| path.is_file())
        .ok_or_else(|| Error::Absent {
            dir: from.to_owned(),
            looked_for: names,
        })
}

fn review(object: &Object) -> Result<Act, String> {
    Ok(Act {
        user: id(object, &["user_id"])?,
        item: id(object, &["business_id"])?,
        rating: Some(number(object, &["stars"])?),
        at: date(&text(object, &["date"])?)?,
    })
}

fn business(object: &Object) -> Result<Thing, String> {
    let categories = text(object, &["categories"])?
        .split(',')
        .map(|c| c.trim().to_owned())
        .filter(|c| !c.is_empty())
        .collect();
    let mut attributes = BTreeMap::from([("category".to_owned(), categories)]);
    let city = text(object, &["city"])?;
    if !city.trim().is_empty() {
        attributes.insert("city".to_owned(), vec![city]);
    }
    Ok(Thing {
        id: id(object, &["business_id"])?,
        title: text(object, &["name"])?,
        attributes,
        description: String::new(),
    })
}
