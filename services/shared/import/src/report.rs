//! What an import read, kept, changed and left out: every line is in one of these counts.

use std::fmt;

/// Lines read and kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    pub read: usize,
    pub kept: usize,
}

/// How often something happened, and the first places.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    pub count: usize,
    pub examples: Vec<String>,
}

impl Notes {
    pub const EXAMPLES_MAX: usize = 5;

    pub fn add(&mut self, example: impl FnOnce() -> String) {
        self.count += 1;
        if self.examples.len() < Self::EXAMPLES_MAX {
            self.examples.push(example());
        }
    }

    /// One line of a report, and the first places below it.
    pub fn write(&self, f: &mut fmt::Formatter<'_>, what: &str) -> fmt::Result {
        writeln!(f, "{:>9} {what}", self.count)?;
        for example in &self.examples {
            writeln!(f, "            {example}")?;
        }
        if self.count > self.examples.len() {
            writeln!(f, "            and {} more", self.count - self.examples.len())?;
        }
        Ok(())
    }
}

/// The account of one import.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub items: Count,
    pub interactions: Count,
    pub users: usize,
    /// Item lines that cannot be used.
    pub bad_items: Notes,
    /// Items named before; the first is kept.
    pub repeated_items: Notes,
    /// Items that no interaction names, where the format has many of them.
    pub unrated_items: Notes,
    /// Interaction rows that cannot be used.
    pub bad_rows: Notes,
    /// Rows whose item is not among the items.
    pub unknown_items: Notes,
    /// Rows of a pair that the same user rated again; the newest is kept.
    pub repeated: Notes,
    /// Rows of users with fewer interactions than were asked for.
    pub sparse_users: Notes,
    /// Values put in another form: a title turned round, a byte read as Latin-1, a long text cut.
    pub changed_values: Notes,
    pub dropped_values: Notes,
    /// Users of each part.
    pub train_users: usize,
    pub dev_users: usize,
    pub test_users: usize,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "items         {:>9} read {:>9} kept",
            self.items.read, self.items.kept
        )?;
        writeln!(
            f,
            "interactions  {:>9} read {:>9} kept, of {} users",
            self.interactions.read, self.interactions.kept, self.users
        )?;
        writeln!(
            f,
            "splits        {:>9} users train {} dev {} test",
            self.train_users, self.dev_users, self.test_users
        )?;
        for (what, notes) in [
            ("item lines left out", &self.bad_items),
            (
                "item lines left out, their id was used before",
                &self.repeated_items,
            ),
            ("items left out, no interaction names them", &self.unrated_items),
            ("rows left out", &self.bad_rows),
            ("rows left out, their item is unknown", &self.unknown_items),
            ("rows left out, rated again later", &self.repeated),
            ("rows left out, their user has too few", &self.sparse_users),
            ("values left out", &self.dropped_values),
            ("values changed", &self.changed_values),
        ] {
            notes.write(f, what)?;
        }
        Ok(())
    }
}
