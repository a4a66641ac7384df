//! Whose data they are: licence files go along, and `dataset.toml` says in a line what they are.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// Licence notices are short; what is longer is something else.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Licences of content that a README may name, the more particular first.
const NAMED: [&str; 7] = [
    "CC BY-NC-SA",
    "CC BY-NC",
    "CC BY-SA",
    "CC BY-ND",
    "CC BY",
    "CC0",
    "ODbL",
];

/// Copies the `LICENSE*`, `LICENCE*` and `README*` files of `from` to `to` and returns the line for `dataset.toml`.
pub(super) fn gather(from: &Path, to: &Path) -> anyhow::Result<String> {
    let mut parts = Vec::new();
    for path in notices(from)? {
        let name = path
            .file_name()
            .map(|n| n.to_string_lossy().into_owned())
            .unwrap_or_default();
        let failed = || format!("cannot read {}", path.display());
        anyhow::ensure!(
            path.metadata().with_context(failed)?.len() <= FILE_BYTES_MAX,
            "{}: is longer than {FILE_BYTES_MAX} bytes",
            path.display()
        );
        let bytes = std::fs::read(&path).with_context(failed)?;
        let text = String::from_utf8_lossy(&bytes);
        if name.to_uppercase().starts_with("README") {
            std::fs::write(to.join(format!("SOURCE-{name}")), &bytes).context("cannot copy the README")?;
            let named = NAMED.iter().find(|licence| text.contains(**licence));
            parts.extend(named.map(|licence| format!("SOURCE-{name} names {licence}")));
        } else {
            std::fs::write(to.join(&name), &bytes).with_context(|| format!("cannot copy {name}"))?;
            let lines = || text.lines().map(str::trim).filter(|l| !l.is_empty());
            let title = lines().next().unwrap_or("empty");
            let holder = lines().find(|l| l.to_lowercase().starts_with("copyright") && *l != title);
            parts.push(format!(
                "{name}: {title}{}",
                holder.map(|h| format!(", {h}")).unwrap_or_default()
            ));
        }
    }
    if parts.is_empty() {
        return Ok("unknown: no licence came with the data".to_owned());
    }
    Ok(parts.join("; "))
}

fn notices(from: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let failed = || format!("cannot read {}", from.display());
    let mut found = Vec::new();
    for entry in std::fs::read_dir(from).with_context(failed)? {
        let entry = entry.with_context(failed)?;
        let name = entry.file_name().to_string_lossy().to_uppercase();
        let notice = ["LICENSE", "LICENCE", "README"]
            .iter()
            .any(|start| name.starts_with(start));
        if notice && entry.path().is_file() {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}
