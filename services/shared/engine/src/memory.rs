//! How much decode memory there may be: a budget in bytes, kept in tokens.
//!
//! The budget is [`Config::memory_bytes_max`], or a share of what is free once the weights are loaded. At the start it is
//! all counted as decode memory; [`crate::Engine::warm_up`] then measures what the largest step works with and takes that
//! off. A budget that cannot hold one sequence of the greatest size is refused with what it could hold.

use std::fs;
use std::path::{Path, PathBuf};

use refract_model::{own_room, source_room};

use crate::config::Config;
use crate::error::Error;
use crate::open::Weights;
use crate::runner::{Layout, Page, Runner, RunnerError, Shape};
use crate::scheduler::{Entry, Room};
use crate::sequence::SequenceId;

/// Room for decode memory and for what a step works with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Budget {
    bytes: u64,
    page: Page,
}

impl Budget {
    /// `None` where the runner's memory is not known by the byte: then [`Config::kv_tokens_max`] alone bounds it.
    pub(crate) fn find(config: &Config, runner: &impl Runner) -> Result<Option<Self>, Error> {
        let Some(page) = runner.page() else {
            return Ok(None);
        };
        let free = runner.memory_free().or_else(free_here);
        let bytes = match (config.memory_bytes_max, free) {
            (Some(most), Some(free)) if most > free => {
                return Err(Error::Memory {
                    what: format!("memory_bytes_max {most}"),
                    bytes: most,
                    free,
                    fits: format!("memory_bytes_max {free}"),
                });
            }
            (Some(most), _) => most,
            (None, Some(free)) => free / 100 * config.memory_percent_max as u64,
            (None, None) => return Ok(None),
        };
        Ok(Some(Self { bytes, page }))
    }

    /// What may run beside `working` bytes of other things, at most what is configured.
    pub(crate) fn room(&self, config: &Config, shape: &Shape, working: u64) -> Result<Room, Error> {
        let working = working.saturating_add(self.page.spare as u64);
        let for_pages = self.bytes.saturating_sub(working);
        let pages = usize::try_from(for_pages / self.page.bytes.max(1) as u64).unwrap_or(usize::MAX);
        let fits = pages.saturating_mul(self.page.tokens);
        match self.page.layout {
            Layout::Pages => self.pages(config, shape, fits, working),
            Layout::Rectangles => self.rectangles(config, shape, fits, working),
        }
    }

    /// As many tokens as fit, whoever has them.
    fn pages(&self, config: &Config, shape: &Shape, fits: usize, working: u64) -> Result<Room, Error> {
        let tokens = self.page.tokens;
        let largest = largest(config, shape, tokens);
        if fits < largest.cost() {
            let new_tokens = largest.own_tokens();
            let needed = (largest.cost() / tokens) as u64 * self.page.bytes as u64;
            return Err(Error::Memory {
                what: format!(
                    "one sequence of {} prompt and {} new tokens",
                    largest.prompt_tokens, largest.new_tokens
                ),
                bytes: needed.saturating_add(working),
                free: self.bytes,
                fits: if fits > new_tokens {
                    format!("a prompt of {} tokens", fits - new_tokens)
                } else {
                    format!("{fits} tokens in all")
                },
            });
        }
        Ok(Room {
            tokens: fits.min(config.kv_tokens_max),
            ..Room::configured(config)
        })
    }

    /// As many sequences and rows as could all be of the greatest size at once: who is long stretches everybody's rectangle, and
    /// none shrinks again. Halved until they fit, for that is how rectangles grow.
    fn rectangles(&self, config: &Config, shape: &Shape, fits: usize, working: u64) -> Result<Room, Error> {
        let largest = largest(config, shape, 1);
        let (prompt, new_tokens) = (largest.prompt_tokens, largest.new_tokens);
        let needed = |room: &Room| {
            own_room(room.rows, new_tokens)
                .saturating_add(source_room(room.sequences, prompt))
                .saturating_add(room.sequences.saturating_mul(prompt))
        };
        let mut room = Room::configured(config);
        while needed(&room) > fits {
            // Sequences of as many rows as one may have go last.
            let rows_least = if room.sequences > 1 {
                config.sequence_rows_max
            } else {
                1
            };
            if room.sequences == 1 && room.rows == 1 {
                let for_source = fits.saturating_sub(own_room(1, new_tokens));
                let fitting = (1..=prompt).rev().find(|p| source_room(1, *p) + p <= for_source);
                return Err(Error::Memory {
                    what: format!("one sequence of {prompt} prompt and {new_tokens} new tokens"),
                    bytes: (needed(&room) as u64)
                        .saturating_mul(self.page.bytes as u64)
                        .saturating_add(working),
                    free: self.bytes,
                    fits: match fitting {
                        Some(prompt) => format!("a prompt of {prompt} tokens"),
                        None => format!("{fits} tokens in all"),
                    },
                });
            }
            room.sequences = (room.sequences / 2).max(1);
            room.rows = (room.rows / 2).max(rows_least).min(room.rows);
        }
        Ok(room)
    }
}

/// Refuses weights that the machine has no memory for, before they are read. `needed` says what they would take; `None` where
/// they cannot be held so.
pub(crate) fn check_weights(
    parameters: u64,
    weights: Weights,
    needed: impl Fn(Weights) -> Option<u64>,
    free: Option<u64>,
) -> Result<(), RunnerError> {
    let (Some(bytes), Some(free)) = (needed(weights), free) else {
        return Ok(());
    };
    if bytes <= free {
        return Ok(());
    }
    let others: Vec<(Weights, u64)> = [Weights::F32, Weights::Bf16, Weights::Int8, Weights::Int4]
        .into_iter()
        .filter_map(|other| Some((other, needed(other)?)))
        .collect();
    let fits: Vec<String> = others
        .iter()
        .filter(|(_, bytes)| *bytes <= free)
        .map(|(other, bytes)| format!("{} needs {bytes}", other.name()))
        .collect();
    let (least, least_bytes) = others
        .into_iter()
        .min_by_key(|(_, bytes)| *bytes)
        .unwrap_or((weights, bytes));
    let advice = if fits.is_empty() {
        let fitting = u128::from(free) * u128::from(parameters) / u128::from(least_bytes.max(1));
        format!(
            "no format fits; a model of {fitting} parameters would, in {}",
            least.name()
        )
    } else {
        format!("{} and would fit", fits.join(", "))
    };
    Err(RunnerError::new(format!(
        "not enough memory: {parameters} weights in {} need {bytes} bytes, there are {free}; {advice}",
        weights.name(),
    )))
}

/// Bytes of memory that this process may still take.
pub(crate) fn free_here() -> Option<u64> {
    free(Path::new("/"))
}

/// The greatest sequence of one row that the limits allow: what an engine must have room for to be of use.
fn largest(config: &Config, shape: &Shape, page_tokens: usize) -> Entry {
    let pages = config.kv_tokens_max / page_tokens;
    let new_tokens = config.new_tokens(shape).min(pages.div_ceil(2) * page_tokens);
    let rest = (pages * page_tokens).saturating_sub(new_tokens.next_multiple_of(page_tokens));
    Entry {
        id: SequenceId(0),
        prompt_tokens: config.prompt_tokens(shape).min(rest).max(1),
        rows: 1,
        new_tokens,
        page_tokens,
        deadline: None,
    }
}

/// What a process has taken of its device or of the machine, to compare with a later look.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Taken {
    /// Bytes that are taken now; of a device, the most since the last look.
    now: u64,
    /// The most so far, where the system remembers.
    most: u64,
}

impl Taken {
    /// A first look, from which growth is counted.
    pub(crate) fn begin(runner: &mut impl Runner) -> Self {
        // What a device has used until now, loading for instance, does not count.
        let _before = runner.memory_peak();
        Self::look(runner)
    }

    pub(crate) fn look(runner: &mut impl Runner) -> Self {
        if let Some(now) = runner.memory_peak() {
            return Self { now, most: 0 };
        }
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let bytes = |name: &str| -> u64 {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let kib = line.and_then(|l| l.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
            kib.unwrap_or(0) * 1024
        };
        Self {
            now: bytes("RssAnon:"),
            most: bytes("VmHWM:"),
        }
    }

    /// How much more it was at the most between two looks, as far as can be seen from here.
    pub(crate) fn growth(self, later: Self) -> u64 {
        later
            .now
            .saturating_sub(self.now)
            .max(later.most.saturating_sub(self.most))
    }
}

/// Bytes that this process may still take: what the machine has available, or what the tightest of its control groups
/// leaves, whichever is less. `root` is `/`. `None` where the system does not say.
fn free(root: &Path) -> Option<u64> {
    let text = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let machine = line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()? * 1024;
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let left = groups.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let (mount, names) = if controllers.is_empty() {
            ("sys/fs/cgroup", &V2)
        } else if controllers.split(',').any(|c| c == "memory") {
            ("sys/fs/cgroup/memory", &V1)
        } else {
            return None;
        };
        left(&root.join(mount), path, names)
    });
    Some(left.fold(machine, u64::min))
}

/// Names of a control group's files: limit, use, and of its statistics what can be given back at once.
struct Names {
    limit: &'static str,
    used: &'static str,
    cached: &'static str,
}

const V2: Names = Names {
    limit: "memory.max",
    used: "memory.current",
    cached: "inactive_file",
};

const V1: Names = Names {
    limit: "memory.limit_in_bytes",
    used: "memory.usage_in_bytes",
    cached: "total_inactive_file",
};

/// The least that a group and those above it leave. Inside a container the path may name what only the host sees: then the
/// mount itself is the group.
fn left(mount: &Path, path: &str, names: &Names) -> Option<u64> {
    let mut group: PathBuf = mount.join(path.trim_start_matches('/'));
    if !group.is_dir() {
        group = mount.to_owned();
    }
    group
        .ancestors()
        .take_while(|dir| dir.starts_with(mount))
        .filter_map(|dir| left_by(dir, names))
        .min()
}

/// `None` where the group has no limit.
fn left_by(group: &Path, names: &Names) -> Option<u64> {
    let number =
        |file: &str| -> Option<u64> { fs::read_to_string(group.join(file)).ok()?.trim().parse().ok() };
    let (limit, used) = (number(names.limit)?, number(names.used)?);
    let stat = fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
    let cached = stat.lines().find_map(|line| {
        let (name, value) = line.split_once(' ')?;
        (name == names.cached).then(|| value.trim().parse::<u64>().ok())?
    });
    Some(limit.saturating_sub(used.saturating_sub(cached.unwrap_or(0))))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    /// A machine with 8 GiB available and these files.
    fn machine(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a folder");
        let meminfo = "MemTotal:       16777216 kB\nMemAvailable:    8388608 kB\n";
        for (file, text) in [("proc/meminfo", meminfo)].iter().chain(files) {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            fs::write(path, text).expect("a file");
        }
        root
    }

    #[test]
    fn weights_that_do_not_fit_are_refused_with_the_formats_that_would() {
        let needed = |weights| match weights {
            Weights::Int4 => Some(625),
            Weights::Int8 => Some(1_000),
            Weights::Bf16 => Some(2_000),
            Weights::Auto | Weights::F32 => Some(4_000),
        };
        let refused = |weights, free| {
            check_weights(1_000, weights, needed, Some(free))
                .expect_err("too little")
                .reason
        };
        assert_eq!(check_weights(1_000, Weights::F32, needed, Some(4_000)), Ok(()));
        assert_eq!(check_weights(1_000, Weights::F32, needed, None), Ok(()));
        assert_eq!(
            refused(Weights::F32, 3_999),
            "not enough memory: 1000 weights in f32 need 4000 bytes, there are 3999; bf16 needs 2000, int8 needs 1000, int4 needs 625 and would fit"
        );
        assert!(refused(Weights::F32, 1_999).ends_with("int8 needs 1000, int4 needs 625 and would fit"));
        assert!(
            refused(Weights::Int8, 624).ends_with("no format fits; a model of 998 parameters would, in int4")
        );
        // Where some formats cannot be, they are no advice.
        let on_several = |weights| needed(weights).filter(|bytes| *bytes >= 2_000);
        let refused =
            |free| check_weights(1_000, Weights::F32, on_several, Some(free)).expect_err("too little");
        assert!(refused(3_000).reason.ends_with("bf16 needs 2000 and would fit"));
        assert!(
            refused(1_000)
                .reason
                .ends_with("a model of 500 parameters would, in bf16")
        );
    }

    #[test]
    fn what_is_free_is_what_the_machine_has_available() {
        assert_eq!(free(machine(&[]).path()), Some(8 * GIB));
        let unlimited = machine(&[
            ("proc/self/cgroup", "0::/user\n"),
            ("sys/fs/cgroup/user/memory.max", "max\n"),
            ("sys/fs/cgroup/user/memory.current", "1000\n"),
        ]);
        assert_eq!(free(unlimited.path()), Some(8 * GIB));
        assert_eq!(free(tempfile::tempdir().expect("a folder").path()), None);
    }

    #[test]
    fn the_tightest_group_counts_and_its_file_cache_does_not() {
        let nested = machine(&[
            ("proc/self/cgroup", "0::/pods/this\n"),
            ("sys/fs/cgroup/pods/this/memory.max", "max\n"),
            ("sys/fs/cgroup/pods/this/memory.current", "1073741824\n"),
            ("sys/fs/cgroup/pods/memory.max", "4294967296\n"),
            ("sys/fs/cgroup/pods/memory.current", "3221225472\n"),
            (
                "sys/fs/cgroup/pods/memory.stat",
                "anon 1\ninactive_file 1073741824\n",
            ),
        ]);
        assert_eq!(free(nested.path()), Some(2 * GIB));
    }

    #[test]
    fn a_container_that_sees_only_its_own_group_finds_it_at_the_mount() {
        let v2 = machine(&[
            ("proc/self/cgroup", "0::/host/names/it\n"),
            ("sys/fs/cgroup/memory.max", "2147483648\n"),
            ("sys/fs/cgroup/memory.current", "1073741824\n"),
        ]);
        assert_eq!(free(v2.path()), Some(GIB));
        let v1 = machine(&[
            ("proc/self/cgroup", "5:cpu,cpuacct:/a\n4:memory:/b\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "1073741824\n"),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", "1073741824\n"),
        ]);
        assert_eq!(free(v1.path()), Some(0));
    }
}
