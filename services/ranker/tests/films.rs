//! Real ratings, where they are at hand: loading, training, a newcomer's slate, and the lead over item kNN.

use std::path::{Path, PathBuf};

use refract_ranker::dataset::{LoadOptions, Manifest, Rating, Unrated};
use refract_ranker::{Dataset, Hyper, evaluate};

/// `shared/data` beside the repository, or where `REFRACT_SHARED_DATA` says.
fn films() -> Option<PathBuf> {
    let named = std::env::var_os("REFRACT_SHARED_DATA").map(PathBuf::from);
    let beside = Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .map(|a| a.join("../shared/data"));
    let films = named.into_iter().chain(beside).map(|d| d.join("films"));
    films.into_iter().find(|d| d.join("interactions.csv").is_file())
}

fn load() -> Option<Dataset> {
    let Some(dir) = films() else {
        eprintln!(
            "SKIPPED: no film ratings beside the repository (shared/data/films) or in REFRACT_SHARED_DATA"
        );
        return None;
    };
    let rating = Rating {
        min: 0.0,
        max: 10.0,
        liked_at: 6.0,
        disliked_at: 4.0,
        unrated: Unrated::Seen,
    };
    let manifest = Manifest {
        name: "films".into(),
        rating: Some(rating),
        ..Manifest::default()
    };
    Some(Dataset::load_as(&dir, manifest, &LoadOptions::default()).unwrap())
}

#[test]
fn real_ratings_load_whole() {
    let Some(data) = load() else { return };
    assert_eq!(
        (
            data.catalogue().len(),
            data.users_len(),
            data.interactions().len()
        ),
        (4_630, 4_165, 64_557)
    );
    assert_eq!(data.report().bad_rows, 0);
    let heat = data.find_titles("heat", 3);
    assert!(heat.iter().any(|m| m.item.title == "Heat"), "{heat:?}");
}

#[test]
fn the_ranker_leads_item_knn_and_popularity_on_real_ratings() {
    let Some(data) = load() else { return };
    // A smaller model than the default keeps this short; the lead is clear even so.
    let mut hyper = Hyper {
        blend: Some(0.2),
        ..Hyper::default()
    };
    hyper.als.dimensions = 24;
    hyper.als.sweeps = 5;
    let options = evaluate::Options {
        hyper,
        resamples: 100,
        ..evaluate::Options::default()
    };
    let rows = evaluate::evaluate(&data, &options, |_| {}).unwrap();
    for split in ["time_split", "last_like"] {
        for metric in ["hr@10", "ndcg@10"] {
            let of = |ranker: &str| {
                rows.iter()
                    .find(|r| r.name == format!("{split}/{ranker}/{metric}"))
                    .unwrap()
                    .value
            };
            let told: Vec<_> = ["refract", "item_knn_last5", "item_knn_all", "popularity"]
                .map(|r| (r, of(r)))
                .into();
            assert!(
                told[1..].iter().all(|(_, rival)| told[0].1 > *rival),
                "{split} {metric}: {told:?}"
            );
            let lead = format!("{split}/refract/{metric}_lead_over_item_knn_last5");
            assert_eq!(rows.iter().find(|r| r.name == lead).unwrap().holds, Some(true));
        }
    }
}
