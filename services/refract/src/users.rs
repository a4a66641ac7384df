//! `refract users`: who is worth trying.

use anyhow::Result;
use refract_ranker::Dataset;
use refract_ranker::dataset::LoadOptions;

use crate::assets::data_and_ranker;
use crate::cli::Users;

pub(crate) fn run(args: &Users) -> Result<()> {
    let (data, _) = data_and_ranker(&args.data)?;
    let dataset = Dataset::load(&data, &LoadOptions::default())?;
    for user in dataset.featured_users(args.limit) {
        let id = user.id.expose();
        if args.json {
            println!(
                "{}",
                serde_json::json!({"id": id, "about": user.about, "interactions": user.interactions})
            );
        } else {
            println!("{id:<28} {:>4} ratings  {}", user.interactions, user.about);
        }
    }
    if !args.json {
        let synthetic = if dataset.manifest().synthetic {
            ", all synthetic"
        } else {
            ""
        };
        println!(
            "\n{} users in all{synthetic}. Try: refract demo --user ID",
            dataset.users_len()
        );
    }
    Ok(())
}
